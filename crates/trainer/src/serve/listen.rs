//! Connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::{App, Limits};
use crate::fault::bad_input;
use crate::signals;

/// Bytes that the system takes for a client before it has them, at most.
const SENT_AHEAD: usize = 64 << 10;
/// How often it is looked whether the server is to stop.
const LOOK: Duration = Duration::from_millis(30);
/// How long requests may still take then: what the help says.
const GRACE: Duration = Duration::from_secs(10);

/// Takes an address, which nobody is answered at yet.
pub fn bind(host: &str, port: u16) -> Result<TcpListener> {
    match TcpListener::bind((host, port)) {
        Ok(listener) => Ok(listener),
        Err(error) => bad_input!("--host {host} --port {port}: cannot listen there: {error}"),
    }
}

/// The thread that has all connections.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Server {
    /// Answers at an address from now on; gives the address too.
    pub fn start(listener: TcpListener, app: App) -> Result<(Server, SocketAddr)> {
        listener.set_nonblocking(true).context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        let limits = app.limits();
        let stop = Arc::new(AtomicBool::new(false));
        let stop_too = stop.clone();
        let run = move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(2)
                .build()
                .context("cannot start the server")?;
            let result = runtime.block_on(accept(listener, app.router(), limits, &stop_too));
            // What is still under way goes, and with it the last who could order anything.
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        };
        let thread =
            thread::Builder::new().name("http".into()).spawn(run).context("cannot start the server")?;
        Ok((Server { stop, thread }, address))
    }

    /// Answers no new requests, and waits a while until the rest has its answers.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("the server's thread broke off")),
        }
    }
}

/// Takes connections until a signal comes or the server is told to stop.
async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: &AtomicBool) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(limits.connections));
    while !stop.load(Ordering::SeqCst) && !signals::stop_requested() {
        // Beyond so many, connections wait in the system's queue.
        let Ok(Ok(permit)) = timeout(LOOK, free.clone().acquire_owned()).await else { continue };
        let stream = match timeout(LOOK, listener.accept()).await {
            Err(_) => continue,
            Ok(Ok((stream, _))) => stream,
            Ok(Err(_)) => {
                // One that is gone already, or no file descriptor is left: some will be, soon.
                sleep(LOOK).await;
                continue;
            }
        };
        // Tokens are small and are to go at once.
        let _ = stream.set_nodelay(true);
        // Else the system keeps megabytes for a client that does not read, and hears of it late that a slow one does.
        let _ = SockRef::from(&stream).set_send_buffer_size(SENT_AHEAD);
        // A client that takes nothing breaks off, and what was written for it is forgotten.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.reading));
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.reading)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off, or speaks no HTTP, is no news.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop((listener, router));
    let _ = timeout(GRACE, graceful.shutdown()).await;
    Ok(())
}
