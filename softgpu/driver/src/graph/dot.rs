//! A picture of a graph, for Graphviz.

use std::fmt::Write;

use super::{Graph, Operation};

impl Graph {
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph dot {\n");
        self.draw(&mut text, 0);
        text.push_str("}\n");
        text
    }

    fn draw(&self, text: &mut String, depth: usize) {
        let state = self.state();
        let graph = self.id;
        let _ = writeln!(text, "subgraph cluster_{graph} {{");
        let _ = writeln!(text, "label=\"graph_{graph}\" graph[style=\"dashed\"];");
        let mut children = Vec::new();
        for entry in state.nodes.values() {
            let operation = entry.node.operation();
            let _ = writeln!(
                text,
                "\"graph_{graph}_node_{}\" [shape=\"{}\" label=\"{}\"];",
                entry.node.id,
                shape(&operation),
                label(&operation)
            );
            children.extend(operation.graphs());
        }
        let id = |handle: &u64| state.nodes.get(handle).map_or(0, |entry| entry.node.id);
        for (to, entry) in &state.nodes {
            for from in &entry.after {
                let (from, to) = (id(from), id(to));
                let _ = writeln!(
                    text,
                    "\"graph_{graph}_node_{from}\" -> \"graph_{graph}_node_{to}\";"
                );
            }
        }
        text.push_str("}\n");
        drop(state);
        // As deep as an executable graph may be.
        if depth < 64 {
            for child in children {
                child.draw(text, depth + 1);
            }
        }
    }
}

fn shape(operation: &Operation) -> &'static str {
    match operation {
        Operation::Kernel(_) => "octagon",
        Operation::Child(_) => "component",
        Operation::Empty => "ellipse",
        _ => "rectangle",
    }
}

fn label(operation: &Operation) -> String {
    match operation {
        Operation::Empty => "EMPTY".into(),
        Operation::Kernel(kernel) => {
            let launch = &kernel.launch;
            // Names of kernels are identifiers; nothing to escape.
            format!(
                "KERNEL\\n{}\\ngrid {:?} block {:?} shared {}",
                launch.function.name, launch.grid, launch.block, launch.shared
            )
        }
        Operation::Copy(node) => format!(
            "MEMCPY\\n{:#x} to {:#x}\\n{} bytes",
            node.copy.from,
            node.copy.to,
            node.copy.bytes()
        ),
        Operation::Fill(node) => format!(
            "MEMSET\\n{:#x}\\n{} bytes of {:#x}",
            node.fill.to,
            node.fill.bytes(),
            node.fill.value
        ),
        Operation::Host(..) => "HOST".into(),
        Operation::Child(child) => format!("GRAPH\\ngraph_{}", child.id),
        Operation::Record(_, event) => format!("EVENT_RECORD\\n{event:#x}"),
        Operation::Wait(_, event) => format!("EVENT_WAIT\\n{event:#x}"),
        Operation::Alloc(memory) => {
            format!("MEM_ALLOC\\n{:#x}\\n{} bytes", memory.address, memory.bytes)
        }
        Operation::Free(address) => format!("MEM_FREE\\n{address:#x}"),
        Operation::MemOps(node) => {
            format!("BATCH_MEM_OP\\n{} operations", node.operations.len())
        }
        Operation::Conditional(node) => {
            let bodies: Vec<String> = node
                .bodies
                .iter()
                .map(|graph| graph.id.to_string())
                .collect();
            format!("CONDITIONAL\\ngraphs {}", bodies.join(" "))
        }
    }
}
