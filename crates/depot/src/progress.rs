//! What the depot tells while it works.

/// Receives events, from several threads.
pub trait Progress: Send + Sync {
    /// Called for every event; must not block.
    fn event(&self, event: DepotEvent);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: DepotEvent) {}
}

/// A step of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Fetch and check the archive's signed index.
    Index,
    /// Let apt choose the packages of the roles.
    Resolve,
    /// Fetch and check packages.
    Download,
    /// Unpack packages into the base root.
    Unpack,
    /// Configure the base root.
    Configure,
    /// Copy a root tree.
    Copy,
    /// Install packages with apt.
    Install,
    /// Overlay, module index, caches.
    Finish,
    /// Make the file system image.
    Image,
    /// Cut an image into compressed pieces.
    Pieces,
    /// Check stored packages by their hashes.
    Check,
    /// Read everything again and compare with its hash.
    Verify,
    /// Write what a site needs to a file.
    Export,
    /// Take what a site needs from a file.
    Import,
}

impl Stage {
    /// The word for it, lower case.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Index => "index",
            Stage::Resolve => "resolve",
            Stage::Download => "download",
            Stage::Unpack => "unpack",
            Stage::Configure => "configure",
            Stage::Copy => "copy",
            Stage::Install => "install",
            Stage::Finish => "finish",
            Stage::Image => "image",
            Stage::Pieces => "pieces",
            Stage::Check => "check",
            Stage::Verify => "verify",
            Stage::Export => "export",
            Stage::Import => "import",
        }
    }
}

/// What `done` and `total` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packages.
    Packages,
}

/// One event. `subject` is a role's name, `index`, `packages`, `base`, `common`, `uml` or `depot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepotEvent {
    /// A stage began.
    StageStarted {
        /// What it is about.
        subject: String,
        /// Which step.
        stage: Stage,
        /// For people, e.g. `212 packages`; may be empty.
        detail: String,
    },
    /// A stage came further.
    StageProgress {
        /// What it is about.
        subject: String,
        /// Which step.
        stage: Stage,
        /// How much is done.
        done: u64,
        /// How much there is.
        total: u64,
        /// What is counted.
        unit: Unit,
    },
    /// A stage ended well.
    StageFinished {
        /// What it is about.
        subject: String,
        /// Which step.
        stage: Stage,
        /// How long it took.
        millis: u64,
    },
    /// Something to know that stops nothing, e.g. an index past its `Valid-Until`.
    Warning {
        /// What it is about.
        subject: String,
        /// What is to be known.
        message: String,
    },
}
