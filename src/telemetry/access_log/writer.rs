//! The thread that writes lines out. Whatever becomes of the output, it alone waits.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use super::buffers::{Buffers, SHARDS};
use super::destination::Destination;
use super::health::{Health, Notice};
use super::output::{Output, is_ready};

/// Longest time a line waits in a buffer, and the longest before a full output is looked at again.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// How soon an output that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How long an output that takes nothing is waited for at the end.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Command {
    /// To write to this from now on, or to nothing.
    Follow(Option<(Destination, Box<dyn Output>)>),
    /// To open its file again, which has been renamed.
    Reopen,
}

/// The writer's own.
#[derive(Debug)]
pub(super) struct Writer {
    buffers: Arc<Buffers>,
    commands: Receiver<Command>,
    output: Option<(Destination, Box<dyn Output>)>,
    /// Lines that were taken from a buffer, and how much of them has been written.
    lines: Vec<u8>,
    written: usize,
    health: Health,
}

/// How far the writer came.
enum Progress {
    /// All was written.
    Done,
    /// The output takes no more for the moment.
    Full,
    /// It can't be written.
    Failed,
}

impl Writer {
    pub(super) fn new(buffers: Arc<Buffers>, commands: Receiver<Command>) -> Self {
        Self {
            buffers,
            commands,
            output: None,
            lines: Vec::new(),
            written: 0,
            health: Health::default(),
        }
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) {
        let mut deadline = None;
        loop {
            let is_closing = self.buffers.is_closing();
            let commands: Vec<Command> = self.commands.try_iter().collect();
            // What was written before a command stands where it was to go then.
            if self.output.is_some() && !commands.is_empty() {
                self.write_out();
            }
            for command in commands {
                self.obey(command);
            }
            let progress = self.write_out();
            let is_done = matches!(progress, Progress::Done);
            let lost = self.buffers.lost();
            let notice = self.health.observe(lost, is_done, Instant::now());
            self.tell(notice, None);
            if is_closing {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + LAST_LINES);
                if is_done || Instant::now() >= deadline {
                    return self.end();
                }
            }
            match progress {
                Progress::Done => thread::park_timeout(FLUSH_INTERVAL),
                Progress::Failed => thread::park_timeout(RETRY_INTERVAL),
                Progress::Full => self.wait(),
            }
        }
    }

    /// Until the output takes more, or for a while.
    fn wait(&self) {
        let output = self.output.as_ref();
        match output.and_then(|(_, output)| output.descriptor()) {
            Some(descriptor) => {
                is_ready(descriptor, FLUSH_INTERVAL);
            }
            None => thread::park_timeout(FLUSH_INTERVAL),
        }
    }

    /// Writes what is there, each buffer once, as far as the output takes it.
    fn write_out(&mut self) -> Progress {
        let mut shard = 0;
        loop {
            while self.written == self.lines.len() {
                if shard == SHARDS {
                    return Progress::Done;
                }
                self.lines.clear();
                self.written = 0;
                self.buffers.take(shard, &mut self.lines);
                shard += 1;
            }
            let Some((_, output)) = &mut self.output else {
                // Nobody wants them any more.
                self.written = self.lines.len();
                continue;
            };
            match output.write(&self.lines[self.written..]) {
                Ok(taken) => {
                    self.written += taken.bytes;
                    self.buffers.lose(taken.lost);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Full,
                Err(error) => {
                    let notice = self.health.failed(Instant::now());
                    self.tell(notice, Some(&error));
                    return Progress::Failed;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow(output) => self.turn_to(output),
            Command::Reopen => {
                let Some((destination, _)) = &self.output else {
                    return;
                };
                let destination = destination.clone();
                if destination.file().is_none() {
                    return log::info!(
                        "nothing to open again: the access log goes to {destination}"
                    );
                }
                match destination.open() {
                    Ok(output) => {
                        self.turn_to(Some((destination.clone(), output)));
                        log::info!("the access log is opened again: {destination}");
                    }
                    Err(error) => log::error!("{error}; the file before stays in use"),
                }
            }
        }
    }

    /// Writes to another output, beginning with a whole line.
    fn turn_to(&mut self, output: Option<(Destination, Box<dyn Output>)>) {
        let written = &self.lines[..self.written];
        let line = written.iter().rposition(|byte| *byte == b'\n');
        self.written = line.map_or(0, |end| end + 1);
        self.output = output;
    }

    fn tell(&self, notice: Option<Notice>, error: Option<&io::Error>) {
        let Some((destination, _)) = &self.output else {
            return;
        };
        match (notice, error) {
            (Some(Notice::Fails), Some(error)) => log::error!(
                "the access log {destination} can't be written: {error}; lines wait as long as there is room"
            ),
            (Some(Notice::Loses), _) => log::warn!(
                "access log lines are dropped: {destination} takes them too slowly or not at all"
            ),
            (Some(Notice::Recovered { lost }), _) => {
                log::warn!("the access log {destination} is written again: dropped={lost}");
            }
            _ => {}
        }
    }

    /// What is left can't be written.
    fn end(&mut self) {
        let count = |lines: &[u8]| lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut left = count(&self.lines[self.written..]);
        for shard in 0..SHARDS {
            self.lines.clear();
            self.buffers.take(shard, &mut self.lines);
            left += count(&self.lines);
        }
        if left > 0 && self.output.is_some() {
            self.buffers.lose(left);
            log::warn!(
                "the process ends with access log lines that can't be written: dropped={left}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::super::output::Taken;
    use super::*;

    /// A disk that has room for so many bytes.
    #[derive(Debug, Default, Clone)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn make_room(&self, bytes: usize) {
            self.0.lock().unwrap().1 += bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Output for Disk {
        fn write(&mut self, lines: &[u8]) -> io::Result<Taken> {
            let (bytes, room) = &mut *self.0.lock().unwrap();
            let some = &lines[..lines.len().min(*room)];
            if some.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.extend_from_slice(some);
            *room -= some.len();
            Ok(some.len().into())
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    fn writer(disk: &Disk) -> Writer {
        let (_, commands) = channel();
        let mut writer = Writer::new(Arc::default(), commands);
        turn(&mut writer, disk);
        writer
    }

    fn turn(writer: &mut Writer, disk: &Disk) {
        let output = Some((Destination::Stdout, Box::new(disk.clone()) as _));
        writer.obey(Command::Follow(output));
    }

    fn add(writer: &Writer, line: &str) {
        writer
            .buffers
            .add(|out| out.extend_from_slice(line.as_bytes()));
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_goes_on_when_there_is_room() {
        let disk = Disk::default();
        let mut writer = writer(&disk);
        add(&writer, "first\nsecond\n");
        disk.make_room(8);
        assert!(matches!(writer.write_out(), Progress::Failed));
        assert_eq!(disk.text(), "first\nse");
        add(&writer, "third\n");
        assert!(matches!(writer.write_out(), Progress::Failed));
        disk.make_room(100);
        assert!(matches!(writer.write_out(), Progress::Done));
        assert_eq!(disk.text(), "first\nsecond\nthird\n");
        assert_eq!(writer.buffers.lost(), 0);
    }

    #[test]
    fn another_output_begins_with_a_whole_line() {
        let (full, empty) = (Disk::default(), Disk::default());
        let mut writer = writer(&full);
        add(&writer, "first\nsecond\n");
        full.make_room(8);
        writer.write_out();
        turn(&mut writer, &empty);
        empty.make_room(100);
        assert!(matches!(writer.write_out(), Progress::Done));
        assert_eq!(empty.text(), "second\n");
    }

    #[test]
    fn what_can_t_be_written_at_the_end_is_counted() {
        let disk = Disk::default();
        let mut writer = writer(&disk);
        add(&writer, "first\nsecond\n");
        writer.write_out();
        add(&writer, "third\n");
        writer.end();
        assert_eq!(writer.buffers.lost(), 3);
    }

    #[test]
    fn without_an_output_nothing_is_kept_and_nothing_is_lost() {
        let disk = Disk::default();
        let mut writer = writer(&disk);
        writer.obey(Command::Follow(None));
        add(&writer, "first\n");
        assert!(matches!(writer.write_out(), Progress::Done));
        disk.make_room(100);
        turn(&mut writer, &disk);
        writer.write_out();
        assert_eq!((disk.text(), writer.buffers.lost()), (String::new(), 0));
    }
}
