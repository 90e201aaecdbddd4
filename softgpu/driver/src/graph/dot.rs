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
        let _ = writeln!(text, "subgraph cluster_{:x} {{", self.handle);
        let _ = writeln!(
            text,
            "label=\"graph_{:x}\" graph[style=\"dashed\"];",
            self.handle
        );
        let mut children = Vec::new();
        for (handle, entry) in &state.nodes {
            let operation = entry.node.operation();
            let _ = writeln!(
                text,
                "\"node_{handle:x}\" [shape=\"{}\" label=\"{}\"];",
                shape(&operation),
                label(&operation)
            );
            if let Operation::Child(child) = operation {
                children.push(child);
            }
        }
        for (to, entry) in &state.nodes {
            for from in &entry.after {
                let _ = writeln!(text, "\"node_{from:x}\" -> \"node_{to:x}\";");
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
        Operation::Child(child) => format!("GRAPH\\ngraph_{:x}", child.handle),
        Operation::Record(_, event) => format!("EVENT_RECORD\\n{event:#x}"),
        Operation::Wait(_, event) => format!("EVENT_WAIT\\n{event:#x}"),
        Operation::Alloc(memory) => {
            format!("MEM_ALLOC\\n{:#x}\\n{} bytes", memory.address, memory.bytes)
        }
        Operation::Free(address) => format!("MEM_FREE\\n{address:#x}"),
    }
}
