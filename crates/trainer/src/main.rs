//! The binary `wikigpt`.

fn main() -> std::process::ExitCode {
    eprintln!("error: the commands wait for the model, dataset and CPU crates");
    std::process::ExitCode::FAILURE
}
