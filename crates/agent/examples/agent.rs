//! The agent alone, as small as it gets: for trying it in a guest and for
//! measuring its memory without the rest of gridgate in the binary.

use gridgate_agent::{AgentOptions, agent_main};

fn main() {
    let level = tracing::Level::INFO;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    std::process::exit(agent_main(AgentOptions::default()));
}
