//! stub
/// e
#[derive(Debug)]
pub struct Embedded;
/// o
#[derive(Debug, Default)]
pub struct Options;
/// s
pub fn start(_: Options) -> std::io::Result<Embedded> {
    Err(std::io::Error::other("not yet"))
}
impl Embedded {
    /// c
    pub fn connect(&self) -> std::io::Result<std::os::unix::net::UnixStream> {
        Err(std::io::Error::other("not yet"))
    }
}
