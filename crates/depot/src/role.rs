//! One role, from its parent root to its image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::build::image_folder;
use crate::common::verify;
use crate::error::DepotError;
use crate::image::RoleImageRequest;
use crate::inputs::Record;
use crate::install::{Install, Way};
use crate::larder::Larder;
use crate::lock::PinnedPackage;
use crate::modules::Modules;
use crate::progress::{Progress, Stage};
use crate::roots::Root;
use crate::stage::Timer;
use crate::store::{Store, remove_tree};
use crate::{ext4, finish, tree};

/// What is needed to build one role.
pub(crate) struct RoleBuild<'a> {
    pub(crate) request: &'a RoleImageRequest,
    pub(crate) modules: Option<&'a Modules>,
    pub(crate) pins: &'a [PinnedPackage],
    pub(crate) inputs: BTreeMap<String, String>,
    pub(crate) key: String,
    /// The root from which it starts.
    pub(crate) parent: &'a Root,
    /// The root whose tools make the file system.
    pub(crate) tools: &'a Root,
    pub(crate) program: &'a Path,
    pub(crate) store: &'a Store,
    /// The run's temporary folder.
    pub(crate) dir: &'a Path,
    pub(crate) larder: &'a Larder<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) way: Way,
    /// Whether no other role is built in this run: what it takes need not be given back before the end.
    pub(crate) alone: bool,
}

impl RoleBuild<'_> {
    /// Builds the image; its record is returned, to be written when it is on disk.
    pub(crate) fn run(self) -> Result<Record, DepotError> {
        let role = &self.request.role;
        let root = self.dir.join(format!("role-{}", self.key));
        self.stage(Stage::Copy, String::new(), || tree::copy(&self.parent.tree(), &root))?;
        let below: BTreeSet<&PinnedPackage> = self.parent.packages.iter().collect();
        let added: Vec<PinnedPackage> =
            self.pins.iter().filter(|pin| !below.contains(pin)).cloned().collect();
        let detail = format!("{} packages on {}", added.len(), below.len());
        self.stage(Stage::Install, detail, || {
            if !added.is_empty() {
                let (pool, larder) = (&self.dir.join(format!("pool-{}", self.key)), self.larder);
                let (program, root) = (self.program, &root);
                let way = self.way;
                Install { program, subject: role, root, pool, larder, way }.run(&added)?;
            }
            verify(role, &root, self.pins)
        })?;
        self.stage(Stage::Finish, String::new(), || {
            finish::finish(self.program, &root, self.request, self.modules)
        })?;
        self.stage(Stage::Image, String::new(), || {
            let out = image_folder(self.store, &self.key)?;
            ext4::make(self.program, role, &self.tools.tree(), &root, &out, &self.key)?;
            // The last one is removed with everything else, while images are flushed.
            if self.alone { Ok(()) } else { remove_tree(&root) }
        })?;
        let (role, packages) = (role.clone(), self.pins.to_vec());
        Ok(Record { role, inputs: self.inputs, packages })
    }

    fn stage(
        &self,
        stage: Stage,
        detail: String,
        work: impl FnOnce() -> Result<(), DepotError>,
    ) -> Result<(), DepotError> {
        let timer = Timer::start(self.progress, &self.request.role, stage, detail);
        work()?;
        timer.finish(self.progress);
        Ok(())
    }
}
