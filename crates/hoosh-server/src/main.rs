//! The program `hoosh`: parses the command line, does what it says, and exits with a code that says how it went.

use std::process::ExitCode;

use clap::Parser;
use hoosh_server::cli::Cli;
use hoosh_server::config::Environment;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with code 0. That nobody reads them is none.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(cli.run(&Environment::of_process()));
    let code = done.err().map_or(0, |failure| failure.tell());
    // What is still open was given its time: no waiting for it once more.
    runtime.shutdown_background();
    ExitCode::from(code)
}
