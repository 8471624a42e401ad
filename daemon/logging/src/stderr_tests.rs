//! Lines come out whole, whoever writes beside and whoever does not read.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::*;

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_is_told_of_its_loss() {
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = Sink::new();
    let line = [b'x'; 999];
    let lines = 100;
    for _ in 0..lines {
        sink.write(&writer, &[&[&line[..], b"\n"].concat()]);
    }
    let mut whole = vec![0; 30_000];
    reader.read_exact(&mut whole).unwrap();
    sink.write(&writer, &[b"again\n"]);
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let (before, after) = rest.split_once(" log lines were lost").unwrap();
    let lost: usize = before.rsplit('\n').next().unwrap().parse().unwrap();
    let passed = (whole.len() + before.len()) / 1000;
    assert_eq!(passed + lost, lines, "{lost} lost");
    assert!(after.ends_with("again\n"), "{after}");
}

/// Of a line that is longer than what a pipe takes at once, too.
#[test]
fn a_line_comes_out_whole_beside_those_of_other_threads() {
    let (mut reader, writer) = io::pipe().unwrap();
    let (sink, writer) = (Arc::new(Sink::new()), Arc::new(writer));
    let reading = std::thread::spawn(move || {
        let mut all = String::new();
        reader.read_to_string(&mut all).map(|_| all)
    });
    let threads: Vec<_> = (b'a'..=b'd')
        .map(|letter| {
            let (sink, writer) = (sink.clone(), writer.clone());
            std::thread::spawn(move || {
                let mut line = vec![letter; 20_000];
                line.push(b'\n');
                (0..30).for_each(|_| assert!(sink.write(&*writer, &[&line]).is_some()));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(writer);
    let all = reading.join().unwrap().unwrap();
    assert_eq!(all.lines().count(), 120);
    for line in all.lines() {
        let first = line.as_bytes()[0];
        assert!(line.len() == 20_000 && line.bytes().all(|byte| byte == first));
    }
}

#[test]
fn a_line_that_was_cut_gets_an_end_and_is_counted() {
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = Sink::new();
    let long = [&vec![b'x'; 100_000][..], b"\n"].concat();
    assert_eq!(sink.write(&writer, &[&long]), None);
    // There is no room even for the beginning of this one.
    assert_eq!(sink.write(&writer, &[b"refused\n"]), None);
    let mut some = vec![0; 40_000];
    reader.read_exact(&mut some).unwrap();
    assert!(sink.write(&writer, &[b"again\n"]).is_some());
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let lines: Vec<_> = rest.trim_start_matches('x').lines().collect();
    assert_eq!(lines, ["", "2 log lines were lost: nobody read them", "again"]);
}

#[test]
fn a_block_says_what_it_is_of_unless_that_stands_above_it() {
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = Sink::new();
    let first = sink.write(&writer, &[b"headline a\n"]);
    sink.write_after(&writer, first, b"of a\n", b"body a\n");
    let second = sink.write(&writer, &[b"headline b\n"]);
    sink.write(&writer, &[b"something else\n"]);
    sink.write_after(&writer, second, b"of b\n", b"body b\n");
    sink.write_after(&writer, None, b"of c\n", b"body c\n");
    drop(writer);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    let expected = "headline a\nbody a\nheadline b\nsomething else\nof b\nbody b\nof c\nbody c\n";
    assert_eq!(all, expected);
}

#[test]
fn a_thread_that_was_stopped_in_its_turn_holds_the_others_up_once() {
    let sink = Sink::new();
    let _held = sink.turn.lock();
    let (_reader, writer) = io::pipe().unwrap();
    let file: BorrowedFd<'_> = writer.as_fd();
    assert!(sink.write(&file, &[b"out of turn\n"]).is_some());
    assert!(sink.held.load(Relaxed));
    assert!(sink.turn().is_none(), "at once");
}

#[test]
fn lines_are_gathered_for_the_thread_that_gathers_them() {
    let lines = gathered(|| {
        Stderr::line(b"one\n");
        std::thread::spawn(|| assert!(BLOCK.with_borrow(Option::is_none)))
            .join()
            .unwrap();
        Stderr::line(b"two\n");
    });
    assert_eq!(lines, b"one\ntwo\n");
    assert!(BLOCK.with_borrow(Option::is_none));
}
