//! Command line ↔ site daemon: HTTP and JSON on a Unix socket.
