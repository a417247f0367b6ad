//! Arguments of the repository service: `serve`, `token`.

use crate::tokens::Scope;
use clap::{Args as ClapArgs, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Clients need a token, made by `vml token new`. docs/service.md is for whoever runs a service.

Examples:
  vml serve
  vml serve --listen 0.0.0.0:8750 --tls-cert cert.pem --tls-key key.pem --append-only
  vml serve --public-read --access-log access.log
  vml serve --stdio")]
pub struct ServeArgs {
    /// Address and port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8750", conflicts_with = "stdio")]
    pub listen: SocketAddr,
    /// Serve one client over standard input and output: what `ssh://` remotes run
    #[arg(long, conflicts_with_all = ["tls_cert", "public_read", "access_log", "url"])]
    pub stdio: bool,
    /// Add and forget nothing
    #[arg(long, requires = "stdio")]
    pub read_only: bool,
    /// Let everybody read without a token
    #[arg(long)]
    pub public_read: bool,
    /// Forget nothing, whoever asks
    #[arg(long)]
    pub append_only: bool,
    /// The file of tokens [default: tokens.toml in the home folder]
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// The certificate with its chain, in PEM form: serve HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The address that pages name, if a proxy stands before the service
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Sign share files with this key, as `vml share --key` does
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Where a line for each request goes [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Connections at once; others wait
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections: u32,
    /// How long a client may pause, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub patience: u64,
    /// Wrong tokens that one address may send in a row; then it is one in six seconds
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub wrong_tokens: u32,
    /// How long requests may go on after the service was told to end, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub grace: u64,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, which is shown once
    New(TokenNewArgs),
    /// List the tokens, without their secrets
    List(TokenFileArgs),
    /// Make a token good for nothing
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TokenFileArgs {
    /// The file of tokens [default: tokens.toml in the home folder]
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
read sees and fetches everything, append adds entries and reads, remove forgets entries, admin may do all.

Examples:
  vml token new --name eva --scopes read,append
  vml token new --name prometheus --scopes read")]
pub struct TokenNewArgs {
    /// Whose it is, or what it is for
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it is good for
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',', required = true)]
    pub scopes: Vec<Scope>,
    #[command(flatten)]
    pub file: TokenFileArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A service that runs knows at once.

Example:
  vml token revoke eva")]
pub struct TokenRevokeArgs {
    /// The token's name
    pub name: String,
    #[command(flatten)]
    pub file: TokenFileArgs,
}
