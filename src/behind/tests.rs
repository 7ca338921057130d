//! The log and the queue against a disk that forgets: whatever moment the machine stops at, nothing
//! is lost that was acknowledged, and nothing comes back that upstream has had.

use super::folder::{Disk, Folder};
use super::log::{Error, Failed, Log};
use super::queue::{Durability, Job, Queue, Seen};
use super::record::{Record, Salt, Write};
use super::told::Told;
use crate::mail::Answer;
use crate::units::clock::{Clock, Tick};
use crate::wire::write::{array, bulk};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A write, from its words, under the prefix `v1:`.
pub(super) fn write(line: &str) -> Write {
    let words: Vec<&str> = line.split(' ').collect();
    let mut request = BytesMut::new();
    array(&mut request, words.len());
    for word in words {
        bulk(&mut request, word.as_bytes());
    }
    Write { database: 0, prefix: 3, ends_at: 0, request: request.freeze() }
}

/// Files in memory. What was appended since the last sync may be on the disk or not.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Files>>);

#[derive(Clone, Debug, Default)]
struct Files {
    /// By number, each with how much of it is on the disk.
    all: BTreeMap<u64, (Vec<u8>, usize)>,
    /// Calls that change something, left before the machine stops; `None`: it does not.
    left: Option<usize>,
    /// Calls that changed something.
    calls: usize,
    /// What calls of this kind end with.
    fails: Option<(&'static str, io::ErrorKind)>,
}

impl Memory {
    /// A call that changes something, if the machine still runs.
    fn call<T>(&self, name: &str, work: impl FnOnce(&mut Files) -> T) -> io::Result<T> {
        let files = &mut *self.0.lock();
        if let Some((_, kind)) = files.fails.filter(|(failing, _)| *failing == name) {
            return Err(kind.into());
        }
        if files.left == Some(0) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        files.left = files.left.map(|left| left - 1);
        files.calls += 1;
        Ok(work(files))
    }

    /// What is found after the machine has stopped: of what was not synced, so many bytes.
    fn after_power_loss(&self, kept: usize) -> Self {
        let mut files = self.0.lock().clone();
        for (bytes, synced) in files.all.values_mut() {
            bytes.truncate(synced.saturating_add(kept).min(bytes.len()));
            *synced = bytes.len();
        }
        (files.left, files.calls, files.fails) = (None, 0, None);
        Self(Arc::new(Mutex::new(files)))
    }

    fn unsynced(&self) -> usize {
        let files = self.0.lock();
        files.all.values().map(|(bytes, synced)| bytes.len() - synced).max().unwrap_or(0)
    }
}

impl Folder for Memory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().all.keys().copied().collect())
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().all[&number].0.clone())
    }

    fn trim(&mut self, number: u64, length: u64) -> io::Result<()> {
        self.call("trim", |files| {
            let length = usize::try_from(length).unwrap();
            let (bytes, synced) = files.all.get_mut(&number).unwrap();
            bytes.truncate(length);
            *synced = length;
        })
    }

    fn create(&mut self, number: u64) -> io::Result<()> {
        if self.0.lock().all.contains_key(&number) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.call("create", |files| drop(files.all.insert(number, Default::default())))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.call("append", |files| {
            files.all.last_entry().unwrap().get_mut().0.extend_from_slice(bytes);
        })
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.call("cut", |files| files.all.last_entry().unwrap().get_mut().0.truncate(length))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.call("sync", |files| {
            let mut last = files.all.last_entry().unwrap();
            let (bytes, synced) = last.get_mut();
            *synced = bytes.len();
        })
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.call("remove", |files| drop(files.all.remove(&number)))
    }
}

/// A life of a log: batches of writes, what upstream has of them, files that are long enough to be
/// followed by others. Out: the last write that was acknowledged, and the last that upstream had
/// when something was appended, before the machine stopped.
fn live(folder: Memory) -> (u64, u64) {
    let (mut acknowledged, mut done) = (0, 0);
    let Ok((mut log, _)) = Log::open(folder, true) else {
        return (0, 0);
    };
    let long = "x".repeat(600_000);
    for round in 0..12_u64 {
        let first = round * 3 + 1;
        let batch: Vec<_> = (first..first + 3)
            .map(|number| (number, write(&format!("SET v1:k{} {number}{long}", number % 5))))
            .collect();
        if log.append(&batch, done).is_err() {
            break;
        }
        acknowledged = first + 2;
        let has = if round % 4 == 3 { acknowledged } else { acknowledged.saturating_sub(4) };
        done = done.max(has);
    }
    (acknowledged, done)
}

#[test]
fn at_whatever_call_the_machine_stops_nothing_acknowledged_is_lost() {
    let whole = Memory::default();
    assert_eq!(live(whole.clone()).0, 36);
    let calls = whole.0.lock().calls;
    assert!(calls > 30, "files were followed by others, and removed: {calls}");
    let mut stops = 0;
    for stop in 0..calls {
        let folder = Memory::default();
        folder.0.lock().left = Some(stop);
        let (acknowledged, done) = live(folder.clone());
        let unsynced = folder.unsynced();
        for kept in [0, 1, 8, 30, 700_000, unsynced.saturating_sub(1), unsynced] {
            let left = folder.after_power_loss(kept);
            // And again while it is read: it is the same.
            for again in 0..6 {
                let mut second = left.after_power_loss(usize::MAX);
                second.0.lock().left = Some(again);
                drop(Log::open(second.clone(), true));
                second = second.after_power_loss(0);
                let (_, found) = Log::open(second, true).unwrap();
                for number in done + 1..=acknowledged {
                    let is_there = found.writes.iter().any(|(found, _)| *found == number);
                    assert!(is_there, "{number} of {acknowledged}, stopped at {stop}, {kept} kept");
                }
                let in_order = found.writes.windows(2).all(|two| two[0].0 + 1 == two[1].0);
                assert!(in_order, "stopped at {stop}, {kept} kept");
            }
            stops += 1;
        }
    }
    assert!(stops > 200);
}

#[test]
fn what_upstream_has_is_not_made_again() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    log.append(&[(1, write("SET v1:a 1")), (2, write("SET v1:b 1"))], 0).unwrap();
    log.append(&[(3, write("SET v1:a 2"))], 2).unwrap();
    let (mut log, found) = Log::open(folder.after_power_loss(0), true).unwrap();
    assert_eq!(found.writes, [(3, write("SET v1:a 2"))]);
    assert_eq!((found.last, found.torn), (3, 0));
    log.append(&[], 3).unwrap();
    let (_, found) = Log::open(folder.after_power_loss(0), true).unwrap();
    assert_eq!(found.writes.len(), 1, "another folder");
}

#[test]
fn damage_where_it_was_on_the_disk_is_told() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    let mut last = 0;
    for number in 1..4 {
        last = folder.0.lock().all[&1].0.len();
        log.append(&[(number, write("SET v1:a 1"))], 0).unwrap();
    }
    let length = folder.0.lock().all[&1].0.len();
    for at in 0..length {
        let other = folder.after_power_loss(0);
        other.0.lock().all.get_mut(&1).unwrap().0[at] ^= 1;
        let opened = Log::open(other, true);
        if at < last {
            assert!(matches!(opened, Err(Error::Damaged { file: 1, .. })), "{at}");
        } else {
            // As if it had been torn.
            assert!(opened.unwrap().1.torn > 0, "{at}");
        }
    }
}

/// What clients write is in the log as they wrote it: a record among it is none of the log's.
#[test]
fn a_value_that_looks_like_a_record_is_no_damage() {
    let (mut value, folder) = (BytesMut::new(), Memory::default());
    Record::Done(7).write(Salt::default(), &mut value);
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    let mut request = BytesMut::new();
    array(&mut request, 3);
    for word in [b"SET", &b"v1:a"[..], &value] {
        bulk(&mut request, word);
    }
    let written = Write { request: request.freeze(), ..write("SET v1:a 1") };
    log.append(&[(1, written)], 0).unwrap();
    let torn = folder.after_power_loss(0);
    torn.0.lock().all.get_mut(&1).unwrap().0.pop();
    assert!(Log::open(torn, true).unwrap().1.torn > 0, "its end alone is missing");
}

/// A process may have been killed before it had the last file synced: that is not the last file
/// any more when the next has begun its own.
#[test]
fn what_a_start_has_read_is_on_the_disk() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    folder.0.lock().fails = Some(("sync", io::ErrorKind::Other));
    log.append(&[(1, write("SET v1:a 1"))], 0).unwrap_err();
    folder.0.lock().fails = None;
    let (mut log, found) = Log::open(folder.clone(), true).unwrap();
    assert_eq!(found.writes.len(), 1);
    log.append(&[(2, write("SET v1:a 2"))], 0).unwrap();
    for kept in [0, 5] {
        let (_, found) = Log::open(folder.after_power_loss(kept), true).unwrap();
        assert_eq!(found.writes.len(), 2, "{kept} bytes kept");
    }
}

#[test]
fn a_write_that_is_missing_is_told() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    log.append(&[(1, write("SET v1:a 1"))], 0).unwrap();
    log.append(&[(3, write("SET v1:a 3"))], 0).unwrap();
    let opened = Log::open(folder.after_power_loss(0), true);
    assert!(matches!(opened, Err(Error::Gap { after: 1 })));
}

/// Whatever call fails while a log is begun anew, it is later, and leaves nothing behind.
#[test]
fn a_log_that_could_not_be_begun_anew_is_later() {
    for call in ["create", "append", "sync", "remove"] {
        let folder = Memory::default();
        let (mut log, _) = Log::open(folder.clone(), true).unwrap();
        log.append(&[(1, write("SET v1:a 1"))], 0).unwrap();
        folder.0.lock().fails = Some((call, io::ErrorKind::StorageFull));
        log.reset().unwrap_err();
        log.reset().unwrap_err();
        folder.0.lock().fails = None;
        log.reset().unwrap();
        assert_eq!(folder.list().unwrap().len(), 1, "{call}");
        log.append(&[(2, write("SET v1:a 2"))], 1).unwrap();
        let (_, found) = Log::open(folder.after_power_loss(0), true).unwrap();
        assert_eq!(found.writes, [(2, write("SET v1:a 2"))], "{call}");
    }
}

/// The same, where a file is gone already whose removal failed.
#[test]
fn what_is_not_there_is_removed() {
    let folder = tempfile::TempDir::new().unwrap();
    let (mut log, _) = Log::open(Disk::open(folder.path()).unwrap(), true).unwrap();
    log.append(&[(1, write("SET v1:a 1"))], 0).unwrap();
    let second = folder.path().join("write-behind-00000000000000000002.log");
    std::fs::create_dir(&second).unwrap();
    log.reset().unwrap_err();
    std::fs::remove_dir(&second).unwrap();
    log.reset().unwrap();
    log.append(&[(2, write("SET v1:a 2"))], 1).unwrap();
    let logs = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(logs, 2, "one, and the lock");
}

/// What was removed may be there again after the machine has stopped: it is not made again.
#[test]
fn what_was_removed_by_a_reset_may_come_back() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    log.append(&[(1, write("SET v1:a 1"))], 0).unwrap();
    let before = folder.after_power_loss(0);
    log.reset().unwrap();
    let after = folder.after_power_loss(0);
    after.0.lock().all.extend(before.0.lock().all.clone());
    let (_, found) = Log::open(after, true).unwrap();
    assert_eq!((found.writes.len(), found.last), (0, 1));
}

fn queue(durability: Durability) -> Queue {
    let hash = |key: &[u8]| u64::from(key[0]);
    Queue::new(durability, (Vec::new(), 0), Clock::manual().0, hash)
}

const PATIENCE: Duration = Duration::from_secs(5);

fn push(queue: &Queue, line: &str) -> (bool, Receiver<Bytes>) {
    let (sender, answers) = channel();
    let answer = Answer::new(move |reply| drop(sender.send(reply)));
    // (By a clock that began at one second.)
    let until = Tick(1_000_000_000 + u64::try_from(PATIENCE.as_nanos()).unwrap());
    let told = Told { reply: Bytes::from_static(b"+OK\r\n"), until, answer };
    let write = write(line);
    let hash = u64::from(write.name()[0]);
    (queue.push((write, hash), 10_000, || Some(told)), answers)
}

fn see(queue: &Queue, key: &str) -> Seen {
    see_again(queue, key, None)
}

fn see_again(queue: &Queue, key: &str, waited: Option<u64>) -> Seen {
    queue.see(u64::from(key.as_bytes()[0]), (0, b"v1:", key.as_bytes()), waited, 1000)
}

fn ok() -> Bytes {
    Bytes::from_static(b"+OK\r\n")
}

/// Has the log take what is there; answers how many writes that were.
fn log(queue: &Queue) -> usize {
    let Job::Append(writes, done) = queue.next_job() else {
        panic!("nothing for the log");
    };
    queue.log_has(writes.last().map_or(0, |(number, _)| *number), done);
    writes.len()
}

fn batch(queue: &Queue) -> (Vec<u64>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let batch = runtime.block_on(queue.batch(Duration::ZERO));
    (batch.writes.iter().map(|(number, ..)| *number).collect(), batch.last)
}

#[test]
fn a_write_is_acknowledged_by_the_log_and_pending_until_upstream_has_it() {
    let queue = queue(Durability::Logged);
    let (is_taken, answers) = push(&queue, "SET v1:a 1");
    assert!(is_taken && answers.try_recv().is_err());
    assert_eq!(see(&queue, "a"), Seen::Unlogged(1), "it may yet not have been");
    assert!(!queue.news.is_logged(1));
    assert_eq!(log(&queue), 1);
    assert!(queue.news.is_logged(1));
    assert_eq!(&answers.try_recv().unwrap()[..], b"+OK\r\n");
    assert_eq!(see(&queue, "a"), Seen::Becomes(Some(Bytes::from_static(b"1"))));
    assert_eq!(see(&queue, "b"), Seen::Settled);
    assert_eq!(batch(&queue), (vec![1], 1));
    queue.flushed(1, |_| None);
    assert!(!queue.news.is_settled(1), "the log does not know it yet");
    assert_eq!(log(&queue), 0);
    assert!(queue.news.is_settled(1) && queue.is_empty());
    assert_eq!(see(&queue, "a"), Seen::Settled);
}

#[test]
fn of_writes_that_leave_nothing_of_each_other_the_last_is_made() {
    let queue = queue(Durability::Memory);
    let mut kept = Vec::new();
    for line in
        ["SET v1:a 1", "HSET v1:h f 1", "SET v1:a 2", "HSET v1:h g 1", "DEL v1:a", "SET v1:b 1"]
    {
        let write = write(line);
        let hash = u64::from(write.name()[0]);
        assert!(queue.push((write, hash), 10_000, || None));
        kept.push(line);
    }
    assert_eq!(see(&queue, "a"), Seen::Becomes(None));
    assert_eq!(see(&queue, "h"), Seen::Pending(4));
    assert_eq!(batch(&queue), (vec![2, 4, 5, 6], 6));
    queue.flushed(4, |_| None);
    assert_eq!(see(&queue, "h"), Seen::Settled);
    assert_eq!(queue.last_of(&[u64::from(b'a'), u64::from(b'h')]), Some(5));
    assert_eq!(batch(&queue), (vec![5, 6], 6));
    queue.flushed(6, |_| None);
    assert!(queue.is_empty() && queue.news.is_settled(6));
}

#[test]
fn a_value_that_has_ended_is_none() {
    let queue = queue(Durability::Memory);
    for (end, expected) in [(999, None), (1001, Some(Bytes::from_static(b"1")))] {
        let write = Write { ends_at: end, ..write("SET v1:a 1") };
        assert!(queue.push((write, u64::from(b'a')), 10_000, || None));
        assert_eq!(see(&queue, "a"), Seen::Becomes(expected));
    }
    push(&queue, "SET v1:a 1 PXAT 5");
    assert_eq!(see(&queue, "a"), Seen::Pending(3));
}

#[test]
fn there_is_room_for_so_much() {
    let queue = queue(Durability::Memory);
    let long = format!("SET v1:a {}", "x".repeat(6_000));
    assert!(push(&queue, &long).0);
    assert!(!push(&queue, &long).0);
    queue.flushed(1, |_| None);
    assert!(push(&queue, &long).0);
}

#[test]
fn where_the_log_fails_upstream_acknowledges() {
    let queue = queue(Durability::Logged);
    let (_, first) = push(&queue, "SET v1:a 1");
    let Job::Append(..) = queue.next_job() else { panic!() };
    let (_, second) = push(&queue, "SET v1:a 2");
    queue.log_failed(&Failed::Write(io::ErrorKind::StorageFull.into()));
    assert!(!push(&queue, "SET v1:b 1").0, "nothing more is taken");
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    assert_eq!(see(&queue, "a"), Seen::Pending(2), "no log will have it");
    // Nothing is left out of what somebody waits for.
    assert_eq!(batch(&queue), (vec![1, 2], 2));
    queue.flushed(2, |number| (number == 1).then(|| Bytes::from_static(b"-ERR no\r\n")));
    assert!(!queue.is_empty() && queue.has_failed(), "what is in the log may be made again");
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "it would undo this");
    assert!(matches!(queue.next_job(), Job::Reset));
    assert!(queue.log_is_new() && queue.is_empty());
    assert_eq!(&first.try_recv().unwrap()[..], b"-ERR no\r\n");
    assert_eq!(second.try_recv().unwrap(), ok());
    assert!(queue.news.is_logged(2));
    let (is_taken, third) = push(&queue, "SET v1:a 3");
    assert!(is_taken && log(&queue) == 1 && third.try_recv().is_ok());
    queue.end();
    queue.flushed(3, |_| None);
    assert_eq!(log(&queue), 0);
    assert!(matches!(queue.next_job(), Job::End));
}

#[test]
fn where_the_log_cannot_be_removed_upstream_acknowledges_all_the_same() {
    let queue = queue(Durability::Logged);
    let (_, answer) = push(&queue, "SET v1:a 1");
    queue.log_failed(&Failed::Write(io::ErrorKind::StorageFull.into()));
    queue.flushed(1, |_| None);
    let failed = Failed::Write(io::ErrorKind::ReadOnlyFilesystem.into());
    queue.log_is_lost(&failed);
    assert_eq!(answer.try_recv().unwrap(), ok());
    assert!(queue.is_empty() && matches!(queue.next_job(), Job::Reset), "and is tried again");
    queue.log_is_lost(&Failed::Sync(io::ErrorKind::Other.into()));
    assert!(!queue.log_is_new(), "such a disk is not believed again");
}

/// Neither the log nor upstream has it: its client does not wait for ever.
#[test]
fn who_has_waited_for_too_long_is_told_that_nobody_knows() {
    let (clock, hands) = Clock::manual();
    let queue = Queue::new(Durability::Logged, (Vec::new(), 0), clock, |_| 0);
    assert_eq!(queue.tell_late_now(), None);
    let (_, answer) = push(&queue, "SET v1:a 1");
    assert!(queue.tell_late_now().is_some() && answer.try_recv().is_err());
    hands.advance(PATIENCE);
    assert_eq!(queue.tell_late_now(), None);
    let told = answer.try_recv().unwrap();
    assert!(told.starts_with(b"-ERR proxy: outcome unknown: "), "{told:?}");
    assert_eq!(log(&queue), 1, "it is made all the same");
    assert!(answer.try_recv().is_err());
}

/// Others go on writing, each time before the log has what was there.
#[test]
fn a_read_does_not_wait_for_what_comes_after_it() {
    let queue = queue(Durability::Logged);
    push(&queue, "SET v1:a 1");
    let Job::Append(writes, done) = queue.next_job() else { panic!() };
    assert_eq!(see(&queue, "a"), Seen::Unlogged(1));
    push(&queue, "SET v1:a 2");
    queue.log_has(writes[0].0, done);
    let one = Seen::Becomes(Some(Bytes::from_static(b"1")));
    assert_eq!(see(&queue, "a"), Seen::Unlogged(2));
    assert_eq!(see_again(&queue, "a", Some(1)), one);
    assert_eq!(log(&queue), 1);
    let two = Seen::Becomes(Some(Bytes::from_static(b"2")));
    assert_eq!(see_again(&queue, "a", Some(1)), two, "the newest that is known");
}

/// Who waits to change a key is not overtaken for ever.
#[test]
fn of_a_key_that_is_closed_nothing_is_taken_before_it_is_settled() {
    let (clock, hands) = Clock::manual();
    let queue = Queue::new(Durability::Memory, (Vec::new(), 0), clock.clone(), |_| 0);
    let later = || Tick(clock.now().0 + 1_000);
    queue.close(None, later());
    queue.close(Some(&[u64::from(b'a')]), later());
    assert!(push(&queue, "SET v1:a 1").0, "nothing was pending");
    queue.close(Some(&[u64::from(b'a')]), later());
    assert!(!push(&queue, "SET v1:a 2").0 && push(&queue, "SET v1:b 1").0);
    queue.close(None, later());
    assert!(!push(&queue, "SET v1:c 1").0);
    queue.flushed(1, |_| None);
    assert!(!push(&queue, "SET v1:a 2").0, "something is pending yet");
    queue.flushed(2, |_| None);
    assert!(push(&queue, "SET v1:a 2").0);
    queue.close(None, later());
    hands.advance(Duration::from_secs(1));
    assert!(push(&queue, "SET v1:a 3").0, "it was too late");
}

/// What a server may refuse replaces nothing: it would be all that is left.
#[test]
fn a_write_with_an_option_replaces_nothing() {
    let queue = queue(Durability::Memory);
    for line in ["SET v1:a 1", "SET v1:a 2 PXAT 5", "SET v1:b 1", "SET v1:b 2"] {
        let write = write(line);
        let hash = u64::from(write.name()[0]);
        assert!(queue.push((write, hash), 10_000, || None));
    }
    assert_eq!(batch(&queue), (vec![1, 2, 4], 4));
}

#[test]
fn a_disk_that_may_have_lied_is_not_believed_again() {
    let queue = queue(Durability::Logged);
    queue.log_failed(&Failed::Sync(io::ErrorKind::Other.into()));
    assert!(matches!(queue.next_job(), Job::Reset), "what stands there is not to be made again");
    assert!(!queue.log_is_new());
    assert!(!push(&queue, "SET v1:a 1").0);
}

#[test]
fn a_folder_that_is_full_costs_nothing_that_was_acknowledged() {
    let folder = Memory::default();
    let (mut log, _) = Log::open(folder.clone(), true).unwrap();
    log.append(&[(1, write("SET v1:a 1"))], 0).unwrap();
    folder.0.lock().fails = Some(("append", io::ErrorKind::StorageFull));
    assert!(matches!(log.append(&[(2, write("SET v1:a 2"))], 0), Err(Failed::Write(_))));
    folder.0.lock().fails = Some(("sync", io::ErrorKind::Other));
    assert!(matches!(log.append(&[(2, write("SET v1:a 2"))], 0), Err(Failed::Sync(_))));
    folder.0.lock().fails = None;
    let (_, found) = Log::open(folder.after_power_loss(0), true).unwrap();
    assert_eq!(found.writes, [(1, write("SET v1:a 1"))]);
    log.reset().unwrap();
    let (_, found) = Log::open(folder.after_power_loss(0), true).unwrap();
    assert!(found.writes.is_empty());
}

#[test]
fn who_waits_is_rung_for_in_time() {
    let (clock, hands) = Clock::manual();
    let queue = Queue::new(Durability::Memory, (Vec::new(), 0), clock, |_| 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reached = queue.news.watch();
        push(&queue, "SET v1:a 1");
        queue.hurry(Tick(1_000_000));
        hands.advance(Duration::from_millis(1));
        queue.news.until_news(&mut reached).await;
        queue.hurry(Tick(u64::MAX - 1));
        queue.flushed(1, |_| None);
        queue.news.until_news(&mut reached).await;
        queue.until_settled().await;
    });
}
