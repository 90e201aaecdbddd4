//! Modules that use each other.

use softgpu_ptx::link::{LinkError, link};
use softgpu_ptx::{Module, parse};

const HEAD: &str = ".version 7.8\n.target sm_70\n.address_size 64\n";

fn module(text: &str) -> Module {
    parse(&format!("{HEAD}{text}")).unwrap()
}

#[test]
fn declarations_meet_definitions() {
    let user = module(
        ".extern .func (.reg .u32 r) twice (.reg .u32 a);
         .extern .global .u32 shared_count;
         .visible .entry k(.param .u64 p) {
            .reg .u32 %a; .reg .u64 %p;
            ld.global.u32 %a, [shared_count];
            call (%a), twice, (%a);
            ret;
         }",
    );
    let definer = module(
        ".visible .global .u32 shared_count = 3;
         .visible .func (.reg .u32 r) twice (.reg .u32 a) { add.u32 r, a, a; ret; }",
    );
    for order in [[&user, &definer], [&definer, &user]] {
        let joined = link(order.map(Module::clone).to_vec()).unwrap();
        assert_eq!(joined.functions.len(), 2);
        assert!(joined.functions.iter().all(|function| function.defined));
        assert_eq!(joined.variables.len(), 1);
        assert_eq!(joined.variables[0].init.len(), 1);
    }
    let alone = link(vec![user.clone()]).unwrap_err();
    assert_eq!(
        alone.to_string(),
        "undefined reference to `shared_count` in `k`"
    );
    let twice = link(vec![user, definer.clone(), definer]).unwrap_err();
    assert!(matches!(twice, LinkError::Twice(_)));
    assert_eq!(link(Vec::new()), Err(LinkError::Empty));
}

#[test]
fn what_is_a_modules_own_stays_its_own() {
    let one = |value: u32, kernel: &str| {
        module(&format!(
            ".global .u32 mine = {value};
             .global .u64 at = generic(mine);
             .func helper () {{ .reg .u32 %a; ld.global.u32 %a, [mine]; ret; }}
             .visible .entry {kernel}() {{ .reg .u64 %p; call helper, (); mov.u64 %p, mine; ret; }}"
        ))
    };
    let joined = link(vec![one(1, "a"), one(2, "b")]).unwrap();
    let mut names: Vec<&str> = joined.functions.iter().map(|f| f.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "helper@0", "helper@1"]);
    let second = joined.functions.iter().find(|f| f.name == "b").unwrap();
    let text = format!("{:?}", second.body);
    assert!(
        text.contains("helper@1") && text.contains("mine@1"),
        "{text}"
    );
    assert!(format!("{:?}", joined.variables).contains("\"mine@1\", offset: 0"));
}

#[test]
fn weak_definitions_give_way() {
    let weak = module(".weak .func f () { ret; }\n.weak .global .u32 v = 1;");
    let strong = module(".visible .func f () { exit; }\n.visible .global .u32 v = 2;");
    for modules in [
        vec![weak.clone(), strong.clone()],
        vec![strong, weak.clone()],
    ] {
        let joined = link(modules).unwrap();
        assert_eq!(&*joined.functions[0].body[0].opcode, "exit");
        assert_eq!(joined.functions.len(), 1);
        assert_eq!(joined.variables[0].init, [softgpu_ptx::Init::Int(2)]);
    }
    assert_eq!(link(vec![weak.clone(), weak]).unwrap().variables.len(), 1);
}
