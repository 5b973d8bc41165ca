//! What is particular to the demikernel row, on the command lines of `httpd` and of `httpd-demikernel`.

/// The row's own options.
#[derive(Clone, Debug, clap::Args)]
pub struct DemikernelOptions {
    /// demikernel: most connections; the stack resets those beyond. Its work grows with them: 256 is what it bears well.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub demikernel_connections: u32,
    /// demikernel: bytes of one push, at most a segment.
    #[arg(long, value_name = "BYTES", default_value_t = 1460, value_parser = clap::value_parser!(u32).range(1..=1460))]
    pub demikernel_piece: u32,
    /// demikernel: pushes under way on a connection; 1: each is waited for, as in the servers of the study.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub demikernel_pushes: u32,
    /// demikernel: how completions are waited for: any (wait_any over all tokens) or next (wait_next_n).
    #[arg(long, value_name = "any|next", default_value = "any", value_parser = ["any", "next"])]
    pub demikernel_wait: String,
}
