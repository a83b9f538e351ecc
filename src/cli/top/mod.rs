//! `tollgate top`: the running gateway's traffic, live in the terminal.

mod format;
mod view;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::view::{Order, View};
use super::Failure;
use super::configuration::print;
use super::operator::{self, Operator};
use crate::admin::{Report, ServiceReport, TrafficReport};

/// How often the gateway is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a key waits at most.
const TICK: Duration = Duration::from_millis(100);
/// The size of what is printed once, where there is no terminal.
const PRINTED: (u16, u16) = (120, 48);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: operator::Gateway,
    /// Print it once and end
    #[arg(long)]
    once: bool,
}

/// What the gateway says of itself at a moment.
#[derive(Debug, Clone)]
struct Moment {
    status: Report,
    traffic: TrafficReport,
    services: Vec<ServiceReport>,
}

impl Moment {
    fn ask(operator: &Operator) -> Result<Self, Failure> {
        Ok(Self {
            status: operator.status()?,
            traffic: operator.traffic()?,
            services: operator.services()?,
        })
    }
}

/// Shows the traffic of the running gateway until it is told to end.
pub(super) fn top(arguments: &Arguments) -> Result<(), Failure> {
    let operator = Operator::find(&arguments.gateway)?;
    let mut view = View::new(Moment::ask(&operator)?);
    if arguments.once || !std::io::stdout().is_terminal() {
        return print_once(&view);
    }
    let moments = follow(operator);
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut view, &moments, |view| {
        terminal.draw(|frame| view.draw(frame)).map(|_| ())
    });
    ratatui::restore();
    shown
}

/// What the gateway says from now on, asked beside the terminal, so that a slow answer holds up no key.
fn follow(operator: Operator) -> Receiver<Result<Moment, String>> {
    let (sender, moments) = channel();
    thread::spawn(move || {
        loop {
            thread::sleep(INTERVAL);
            let moment = Moment::ask(&operator).map_err(|failure| match failure {
                Failure::Other(reason) => reason,
                Failure::Config => "the configuration can't be read".to_owned(),
            });
            if sender.send(moment).is_err() {
                return;
            }
        }
    });
    moments
}

fn show(
    view: &mut View,
    moments: &Receiver<Result<Moment, String>>,
    mut draw: impl FnMut(&View) -> std::io::Result<()>,
) -> Result<(), Failure> {
    draw(view)?;
    loop {
        match moments.try_recv() {
            Ok(moment) => view.take(moment),
            Err(TryRecvError::Empty) if !event::poll(TICK)? => continue,
            Err(TryRecvError::Empty) => match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press && !obey(key, view) => {
                    return Ok(());
                }
                // Perhaps the terminal has another size.
                _ => {}
            },
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        draw(view)?;
    }
}

/// Does what a key means. Whether to go on.
fn obey(key: KeyEvent, view: &mut View) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('r') => view.order = Order::Requests,
        KeyCode::Char('e') => view.order = Order::Errors,
        KeyCode::Char('t') => view.order = Order::Time,
        KeyCode::Char('n') => view.order = Order::Name,
        KeyCode::Down | KeyCode::Char('j') => view.scroll(1),
        KeyCode::Up | KeyCode::Char('k') => view.scroll(-1),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::PageUp => view.scroll(-10),
        _ => {}
    }
    true
}

/// The same as text, without colours.
fn print_once(view: &View) -> Result<(), Failure> {
    let (columns, lines) = PRINTED;
    let mut terminal = match Terminal::new(TestBackend::new(columns, lines)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view.draw(frame)) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    print(&text(terminal.backend()))
}

/// What a terminal shows, as lines without blanks at their ends.
fn text(backend: &TestBackend) -> String {
    let buffer = backend.buffer();
    let cells = buffer.content.chunks(usize::from(buffer.area.width));
    let lines: Vec<String> = cells
        .map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, view: &mut View) -> bool {
        obey(KeyEvent::new(code, KeyModifiers::NONE), view)
    }

    #[test]
    fn keys_sort_scroll_and_end() {
        let mut view = View::new(view::tests::moment());
        assert!(press(KeyCode::Char('e'), &mut view));
        assert_eq!(view.order, Order::Errors);
        assert!(press(KeyCode::Char('x'), &mut view));
        assert!(press(KeyCode::Down, &mut view));
        assert!(!press(KeyCode::Char('q'), &mut view));
        assert!(!press(KeyCode::Esc, &mut view));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!obey(interrupt, &mut view));
        assert!(press(KeyCode::Char('c'), &mut view));
    }
}
