//! A pipe used in both directions, several messages, and the end of file when the other side closes.
//!
//! What to see: an answer to each question, then the end of file in the child and in the parent.

mod common;
use procession::{pipe, spawn, Pipe};

fn answer((ours, parting): (Pipe<String>, Pipe<String>)) {
    while let Some(question) = ours.recv().expect("a question or the end") {
        ours.send(&question.to_uppercase()).expect("the parent listens");
    }
    let last = "the child has seen the end of file".to_string();
    parting.send(&last).expect("the parent listens");
}

fn main() -> common::Outcome {
    common::start_method()?;
    let (ours, theirs) = pipe::<String>()?;
    let (receiver, parting) = pipe::<String>()?;
    let child = spawn(answer, (theirs, parting))?;
    for question in ["who".to_string(), "what".into(), "where".into(), "x".repeat(100_000)] {
        ours.send(&question)?;
        let reply = ours.recv()?.ok_or("the child left early")?;
        println!(
            "{} -> {} ({})",
            &question[..question.len().min(5)],
            &reply[..reply.len().min(5)],
            reply.len()
        );
    }
    ours.close()?; // a forked child has a copy of this end too, so dropping ours would not end the pipe
    println!("{}", receiver.recv()?.ok_or("no parting word")?);
    if receiver.recv()?.is_none() {
        println!("the parent has seen the end of file");
    }
    child.join()?;
    Ok(())
}
