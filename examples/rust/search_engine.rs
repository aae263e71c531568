//! A search engine: each process loads its part of a folder's files and answers one query after another.
//!
//! What to see: the number of matching lines for several queries in a row.
//! Arguments: the folder and the queries.

mod common;
use procession::{cpu_count, spawn, Queue};
use std::path::PathBuf;

const QUERIES: [&str; 4] = ["import", "def __init__(self", "lambda", "no line says this 7f3a"];
const AT_MOST: usize = 200;

type Part = (Vec<PathBuf>, Queue<Option<String>>, Queue<usize>);

fn search((paths, queries, results): Part) {
    let texts: Vec<String> = paths
        .iter()
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned())
        .collect();
    while let Some(query) = queries.get().expect("a query") {
        let lines = texts.iter().flat_map(|text| text.split('\n'));
        let matches = lines.filter(|line| line.contains(&query)).count();
        results.put(&matches).expect("memory lasts");
    }
}

/// The first text files of the folder, by name.
fn files(folder: &PathBuf) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "py" || kind == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.truncate(AT_MOST);
    Ok(paths)
}

fn main() -> common::Outcome {
    let arguments = common::start_method()?;
    let folder = PathBuf::from(arguments.first().map_or("examples/python", String::as_str));
    let files = files(&folder)?;
    let workers = cpu_count() + 1;
    println!("{} files in {}, {workers} processes", files.len(), folder.display());
    let results = Queue::new()?;
    let mut engines = Vec::new();
    for worker in 0..workers {
        let part = files.iter().skip(worker).step_by(workers).cloned().collect();
        let queries = Queue::new()?;
        engines.push((spawn(search, (part, queries.clone(), results.clone()))?, queries));
    }
    let given: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    for query in if given.is_empty() { &QUERIES[..] } else { &given[..] } {
        for (_, queries) in &engines {
            queries.put(&Some((*query).to_string()))?;
        }
        let mut matches = 0;
        for _ in &engines {
            matches += results.get()?;
        }
        println!("{matches} lines with {query:?}");
    }
    for (child, queries) in engines {
        queries.put(&None)?;
        child.join()?;
    }
    Ok(())
}
