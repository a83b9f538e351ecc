//! A backend to try the gateway with: it answers with what it was asked. Standard library only, so
//! that it compiles in a second.
//!
//! usage: backend ADDRESS NAME
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let name = arguments.next().unwrap_or_else(|| "backend".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("{name} answers on {address}");
    for stream in listener.incoming() {
        let name = name.clone();
        let stream = stream?;
        // A client that goes away in the middle of something is no news.
        std::thread::spawn(move || serve(&stream, &name).unwrap_or_default());
    }
    Ok(())
}

/// Answers the requests of one connection, one after another.
fn serve(stream: &TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut seen = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            seen.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let answer = format!(
            "{name} was asked:\n{seen}\n{}",
            String::from_utf8_lossy(&body)
        );
        let header = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all((header + &answer).as_bytes())?;
    }
}
