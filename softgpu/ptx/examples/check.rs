//! Reads PTX files and says what is in them, or where the first error is: `cargo run --example check -- FILE…`.

fn main() {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
                continue;
            }
        };
        match softgpu_ptx::parse(&text) {
            Ok(module) => {
                let instructions: usize = module
                    .functions
                    .iter()
                    .map(|function| function.body.len())
                    .sum();
                println!(
                    "{path}: version {}.{}, {}, {} functions, {instructions} instructions, {} variables",
                    module.version.0,
                    module.version.1,
                    module.target,
                    module.functions.len(),
                    module.variables.len()
                );
            }
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
            }
        }
    }
    std::process::exit(i32::from(failed));
}
