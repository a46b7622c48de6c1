//! Where Apache Kafka comes from: the libraries of `tests/kafka/pom.xml`, run by this machine's Java,
//! or the official image of the same version.
//!
//! Made once and kept beside what cargo builds, under `target/kafka/`; later runs need no Maven. The
//! folder appears whole or not at all, so test processes may race for it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{getgid, getuid};

use super::super::BROKER_JAVA;
use super::broker::{Broker, Place};
use super::{CLUSTER_ID, text};

/// The pom names the version; it stands nowhere else in the tests.
const POM: &str = include_str!("../../../kafka/pom.xml");
/// The oldest Java that runs this Kafka.
const JAVA_MIN: u32 = 17;
/// How a broker is begun quickly, and what it says.
const JAVA_ALWAYS: [&str; 3] = [
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];
/// Kafka's features as its own tool writes them into every folder. The file names no broker, so that
/// one serves all of them, and no broker waits for the tool.
const FEATURES: &str = "bootstrap.checkpoint";
/// A broker's classes as Java has them in memory: with them it starts in half the time.
const CLASSES: &str = "kafka.jsa";

/// Kafka, ready to be run.
pub(super) struct Distribution {
    /// Java, or nothing for the container engine's.
    java: Option<PathBuf>,
    /// The folder with what was made once.
    home: PathBuf,
}

impl Distribution {
    /// The one of this process, made on first use. Errors: why there is none, for a person.
    pub(super) fn get() -> Result<&'static Self, String> {
        static FOUND: OnceLock<Result<Distribution, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            Self::of_java().or_else(|java| {
                Self::of_docker().map_err(|docker| format!("{java}; nor a container: {docker}"))
            })
        });
        found.as_ref().map_err(Clone::clone)
    }

    fn of_java() -> Result<Self, String> {
        let java = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
        let java = java.filter(|java| java.exists()).unwrap_or_else(|| "java".into());
        let told = run(Command::new(&java).arg("-version"))?;
        if major(&told).is_none_or(|major| major < JAVA_MIN) {
            return Err(format!("Java {JAVA_MIN} or later is needed, not {}", told.trim()));
        }
        // Another pom is another folder.
        let name = format!("{}-{:08x}", version(), crc32c::crc32c(POM.as_bytes()));
        Self::made_once(Some(java), &name, |fresh| {
            run(Command::new("mvn")
                .args(["-q", "-B", "-f"])
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml"))
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", fresh.home.join("libs").display())))?;
            fresh.keep_features()?;
            fresh.keep_classes()
        })
    }

    fn of_docker() -> Result<Self, String> {
        // The client may be there without an engine.
        run(Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]))?;
        Self::made_once(None, &format!("{}-docker", version()), Self::keep_features)
    }

    fn made_once(
        java: Option<PathBuf>,
        name: &str,
        make: impl FnOnce(&Self) -> Result<(), String>,
    ) -> Result<Self, String> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
        let kept = target.join("kafka");
        let made = Self { java, home: kept.join(name) };
        if made.home.exists() {
            return Ok(made);
        }
        fs::create_dir_all(&kept).map_err(text)?;
        // Whoever comes second waits and finds it made. The lock ends with its process.
        let lock = File::create(kept.join("lock")).map_err(text)?;
        lock.lock().map_err(text)?;
        if !made.home.exists() {
            let folder = tempfile::tempdir_in(&kept).map_err(text)?;
            let fresh = Self { java: made.java.clone(), home: folder.path().to_owned() };
            make(&fresh)?;
            fs::rename(folder.keep(), &made.home).map_err(text)?;
        }
        Ok(made)
    }

    /// Has Kafka's own tool format a folder, and keeps what all folders have in common.
    fn keep_features(&self) -> Result<(), String> {
        let places = [Place::new(Ipv4Addr::LOCALHOST)?];
        let settings = places[0].write_settings(0, &places)?;
        run(self
            .command(&places[0])
            .arg("kafka.tools.StorageTool")
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(settings))?;
        fs::copy(places[0].data().join(FEATURES), self.features()).map_err(text)?;
        Ok(())
    }

    /// Runs a broker once and keeps its classes.
    fn keep_classes(&self) -> Result<(), String> {
        let places = [Place::new(Ipv4Addr::LOCALHOST)?];
        places[0].prepare(self, 0, &places)?;
        let mut command = self.command(&places[0]);
        command.arg(format!("-XX:ArchiveClassesAtExit={CLASSES}"));
        let mut broker = Broker::run(command, None, &places[0])?;
        broker.wait_until_seen(&places[0], 1)?;
        broker.stop()
    }

    /// The libraries: relative, because the folder gets its name only when it is whole, and in an
    /// order that stays, because the kept classes are good for no other.
    fn class_path(&self) -> String {
        let libraries = fs::read_dir(self.home.join("libs")).into_iter().flatten().flatten();
        let mut files: Vec<String> = libraries
            .map(|library| format!("libs/{}", library.file_name().to_string_lossy()))
            .collect();
        files.sort();
        files.join(":")
    }

    /// What every broker's data folder begins with.
    pub(super) fn features(&self) -> PathBuf {
        self.home.join(FEATURES)
    }

    /// What the container of the broker at `place` is called, if it runs in one.
    pub(super) fn container(&self, place: &Place) -> Option<String> {
        let name = || place.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.java.is_none().then(name)
    }

    /// Java with Kafka's libraries, to be followed by a class and its arguments, for what lies at
    /// `place`.
    pub(super) fn command(&self, place: &Place) -> Command {
        if let Some(name) = self.container(place) {
            let folder = place.folder().display();
            let mut docker = Command::new("docker");
            docker
                .args(["run", "--rm", "--network=host", "--entrypoint=java"])
                .arg(format!("--name={name}"))
                .arg(format!("--user={}:{}", getuid().as_raw(), getgid().as_raw()))
                .arg(format!("--volume={folder}:{folder}"))
                .arg(format!("apache/kafka:{}", version()))
                .args(BROKER_JAVA)
                .args(JAVA_ALWAYS)
                .args(["-cp", "/opt/kafka/libs/*"]);
            return docker;
        }
        let mut command = Command::new(self.java.as_deref().unwrap_or(Path::new("java")));
        command.current_dir(&self.home).args(BROKER_JAVA).args(JAVA_ALWAYS);
        command.args(["-cp", &self.class_path()]);
        if self.home.join(CLASSES).exists() {
            command.arg(format!("-XX:SharedArchiveFile={CLASSES}"));
        }
        command
    }
}

/// The version of Kafka in the pom.
fn version() -> &'static str {
    let (_, behind) = POM.split_once("<kafka.version>").expect("the pom has it");
    behind.split('<').next().expect("it ends")
}

/// The major version in what `java -version` says.
fn major(told: &str) -> Option<u32> {
    told.split('"').nth(1)?.split(['.', '-']).next()?.parse().ok()
}

/// Runs a tool to its end; answers everything that it printed.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(|error| format!("{program} does not run here: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{program} failed: {said}")) }
}

#[test]
fn versions_of_java_and_kafka_are_read() {
    assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
    assert_eq!(major("openjdk version \"25\" 2025-09-16"), Some(25));
    assert_eq!(major("java version \"1.8.0_411\""), Some(1));
    assert_eq!(major("no such thing"), None);
    assert!(version().starts_with("4."), "{}", version());
}
