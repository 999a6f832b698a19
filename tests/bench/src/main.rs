//! hoosh against a bare hyper proxy, on this machine, in one run: `just bench`.
//!
//! ```text
//! hoosh-bench run ──► hoosh ──► hoosh-bench mock      what hoosh costs
//!        │ └───────► hoosh-bench floor ──► mock       what any proxy on hyper costs
//!        └─────────────────────────────► mock         what the calls cost by themselves
//! ```
//!
//! Each role is a process of its own, because CPU and memory are read from the kernel per process. A number
//! taken on a shared machine says little by itself, so the floor and hoosh take turns within one run, round by
//! round, and the ratio between neighbours is what counts. `--floor-only` puts a second floor in hoosh's place:
//! its ratios should be 1.00, and what they are instead is the noise of the method on this machine.
//!
//! The floor lives in this binary and has the allocator hoosh has (the system's), so that a ratio says what hoosh does for
//! a call and not which allocator it was linked with.

#[cfg(target_os = "linux")]
mod bench {
    use std::process::ExitCode;

    use clap::{Parser, Subcommand};

    use crate::{floor, mock, run};

    /// The project's own benchmark: one run, numbers beside those of a bare hyper proxy.
    #[derive(Parser)]
    #[command(name = "hoosh-bench", version)]
    struct Cli {
        #[command(subcommand)]
        role: Role,
    }

    #[derive(Subcommand)]
    enum Role {
        /// Be the upstream: OpenAI chat with scripted answers
        Mock(mock::Args),
        /// Be the bare hyper pass-through proxy that hoosh is measured against
        Floor(floor::Args),
        /// Start everything, measure in interleaved rounds, print the table
        Run(run::Args),
    }

    /// Runs one role and says what went wrong with all its causes.
    pub(crate) fn main() -> ExitCode {
        let outcome = match Cli::parse().role {
            Role::Mock(args) => mock::serve(&args),
            Role::Floor(args) => floor::serve(&args),
            Role::Run(args) => run::run(&args),
        };
        outcome.unwrap_or_else(|failure| {
            eprintln!("hoosh-bench: {}", failure.chain());
            ExitCode::FAILURE
        })
    }
}

#[cfg(target_os = "linux")]
mod cores;
#[cfg(target_os = "linux")]
mod failure;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod mock;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod samples;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod stamp;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    bench::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("hoosh-bench: CPU and memory per process are read the Linux way; run it on Linux");
    std::process::ExitCode::FAILURE
}
