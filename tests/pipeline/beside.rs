//! TCP and the application of the pipeline on the driver's thread, on threads of their own, or in another process.
//!
//! In: requests through queues or a socket; out: the same, handled, with the stamps and probes of what was done. It
//! refuses to know bursts, and what is planted.

use super::request::{BYTES, DELIVERED, ENDED, OUT, Request, STARTED, TCP, WOKEN};
use super::{SOCKET, Shape, do_tcp, this_binary};
use crate::busy::{now, wait_for_recorder};
use bypassprof_probe::{self as probe, Flow, points};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// TCP of a request that came in.
pub fn tcp_in(request: &mut Request) {
    request.ends[TCP] = now();
    probe::emit_with(points::TCP_IN, request.flow(), request.frame, [100, 0, 0]);
    do_tcp(request.turns[0]);
    request.ends[DELIVERED] = now();
    probe::emit_with(points::DELIVER, request.flow(), 100, [0; 3]);
}

/// The reply leaves TCP in a frame.
pub fn tcp_out(request: &mut Request, frame: u32) {
    request.ends[OUT] = now();
    probe::emit_with6(points::TCP_OUT, request.flow(), frame, [500, 0, 0, 0, 0, 0]);
}

/// A thread takes what another one put into a queue.
pub fn take_over(request: &mut Request) {
    let age = probe::now().raw().saturating_sub(request.handed) as u32;
    probe::emit_with(points::HANDOFF, request.flow(), 0, [0, age, 0]);
}

/// The application on a thread of its own, asleep while there is nothing to do. `next` gives what has come, or waits
/// for it; nothing when it is over.
pub fn application(
    mut next: impl FnMut(bool) -> Result<Option<Request>, Over>,
    mut done: impl FnMut(Request),
) {
    probe::name_thread("application");
    let mut woken = 0;
    // Whoever takes them is woken up when this thread has nothing to do: the wake-up is no part of the work.
    let mut replies = Vec::new();
    loop {
        let mut request = match next(false) {
            Ok(Some(request)) => request,
            Ok(None) => {
                replies.drain(..).for_each(&mut done);
                probe::emit(points::SLEEP, Flow::NONE, 0);
                let Ok(Some(request)) = next(true) else {
                    return;
                };
                woken = now();
                probe::emit(points::WAKE, Flow::NONE, 3);
                request
            }
            Err(Over) => return,
        };
        request.ends[WOKEN] = woken;
        request.ends[STARTED] = now();
        probe::emit(points::APP_START, request.flow(), 0);
        request.work();
        request.ends[ENDED] = now();
        probe::emit(points::APP_END, request.flow(), 500);
        replies.push(request);
    }
}

/// The application on a thread of this process, behind a queue.
fn application_thread(
    queue: mpsc::Receiver<Request>,
    done: impl FnMut(Request) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || application(|wait| of_queue(&queue, wait), done))
}

/// Nothing comes any more.
pub struct Over;

fn of_queue(queue: &mpsc::Receiver<Request>, wait: bool) -> Result<Option<Request>, Over> {
    if wait {
        return queue.recv().map(Some).map_err(|_| Over);
    }
    match queue.try_recv() {
        Ok(request) => Ok(Some(request)),
        Err(mpsc::TryRecvError::Empty) => Ok(None),
        Err(mpsc::TryRecvError::Disconnected) => Err(Over),
    }
}

pub fn of_socket(socket: &mut UnixStream, wait: bool) -> Result<Option<Request>, Over> {
    // There is a whole request or none: it is written at once.
    socket.set_nonblocking(!wait).unwrap();
    let mut bytes = [0; BYTES];
    match socket.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(Request::from_bytes(&bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Over),
    }
}

/// What runs beside the driver's thread.
pub enum Beside {
    Nothing,
    /// The application's thread: to it and back.
    Application(mpsc::Sender<Request>, mpsc::Receiver<Request>),
    /// TCP's thread, which has the application's behind it.
    Stack(mpsc::Sender<ToStack>, mpsc::Receiver<Request>),
    /// The application's process.
    Process(UnixStream),
}

/// What comes to TCP's thread.
pub enum ToStack {
    Frame(Request),
    Reply(Request),
    End,
}

impl Beside {
    /// Starts what a shape has beside the driver's thread.
    pub fn start(shape: Shape) -> (Beside, Option<Joined>) {
        match shape {
            Shape::One => (Beside::Nothing, None),
            Shape::Two => {
                let (told, is_told) = mpsc::channel();
                let (is_done, done) = mpsc::channel();
                let reply = move |request| is_done.send(request).unwrap();
                let thread = application_thread(is_told, reply);
                (
                    Beside::Application(told, done),
                    Some(Joined::Thread(thread)),
                )
            }
            Shape::Three => {
                let (inbox, taken) = mpsc::channel();
                let (is_out, out) = mpsc::channel();
                let frames = inbox.clone();
                let thread = std::thread::spawn(move || stack(&taken, &inbox, &is_out));
                (Beside::Stack(frames, out), Some(Joined::Thread(thread)))
            }
            Shape::Processes => {
                let path = std::env::var(SOCKET).unwrap();
                let listener = UnixListener::bind(&path).unwrap();
                let child = this_binary("beside::application_process")
                    .stdout(Stdio::null())
                    .spawn();
                let (socket, _) = listener.accept().unwrap();
                (
                    Beside::Process(socket),
                    Some(Joined::Process(child.unwrap())),
                )
            }
        }
    }
}

/// What has to end before the program does.
pub enum Joined {
    Thread(JoinHandle<()>),
    Process(std::process::Child),
}

impl Joined {
    /// Waits for its end.
    pub fn wait(self) {
        match self {
            Joined::Thread(thread) => thread.join().unwrap(),
            Joined::Process(mut child) => assert!(child.wait().unwrap().success()),
        }
    }
}

/// TCP on a thread of its own, between driver and application.
fn stack(
    taken: &mpsc::Receiver<ToStack>,
    inbox: &mpsc::Sender<ToStack>,
    out: &mpsc::Sender<Request>,
) {
    probe::name_thread("stack");
    let (to_app, app_is_told) = mpsc::channel();
    let replies = inbox.clone();
    let reply = move |request| replies.send(ToStack::Reply(request)).unwrap();
    let app = application_thread(app_is_told, reply);
    let mut frame = 0;
    let mut burst = Vec::new();
    for item in taken {
        match item {
            ToStack::Frame(request) if burst.is_empty() => burst.push(request),
            ToStack::Frame(request) => {
                burst.push(request);
                for request in &mut burst {
                    take_over(request);
                    tcp_in(request);
                }
                burst.drain(..).for_each(|r| to_app.send(r).unwrap());
            }
            ToStack::Reply(mut request) => {
                tcp_out(&mut request, frame);
                frame += 1;
                out.send(request).unwrap();
            }
            ToStack::End => break,
        }
    }
    drop(to_app);
    app.join().unwrap();
}

/// Not a test: the application's process of a program in two.
#[test]
#[ignore = "the application of the program that the tests record"]
fn application_process() {
    wait_for_recorder();
    let mut socket = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let mut replies = socket.try_clone().unwrap();
    application(
        |wait| of_socket(&mut socket, wait),
        |request| {
            replies.set_nonblocking(false).unwrap();
            replies.write_all(&request.to_bytes()).unwrap();
        },
    );
}
