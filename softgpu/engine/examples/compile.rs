//! Compiles every kernel of PTX files and says which ones are refused, and why: `cargo run --example compile -- FILE…`.

fn main() {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let module = match std::fs::read_to_string(&path).map(|text| softgpu_ptx::parse(&text)) {
            Ok(Ok(module)) => module,
            Ok(Err(error)) => {
                println!("{path}: {error}");
                failed = true;
                continue;
            }
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
                continue;
            }
        };
        let program = match softgpu_engine::interpreter().compile(&module) {
            Ok(program) => program,
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
                continue;
            }
        };
        for (index, kernel) in program.kernels().iter().enumerate() {
            match program.prepare(index) {
                Ok(()) => println!("{path}: {}: fine", kernel.name),
                Err(error) => {
                    println!("{path}: {}: {error}", kernel.name);
                    failed = true;
                }
            }
        }
    }
    std::process::exit(i32::from(failed));
}
