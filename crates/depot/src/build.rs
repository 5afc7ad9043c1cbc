//! One run of [`crate::Depot::role_images`], from requests to images.
//!
//! ```text
//! index ─→ base packages ─unpacked─┬─configure──────────→ base root ─copy→ common root ─copy→ role roots ─→ images
//!                                  └─resolve─→ role packages (downloaded, checked) ┘        (one per core)
//! ```
//!
//! Roots and images are made below the run's temporary folder and moved to final
//! names; they count only when their record is there, which is written after one
//! flush of the file system at the end of the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gridgate_deb::Deb;
use gridgate_deb::unpacker::Conffiles;

use crate::apt::Resolver;
use crate::archive::fetch::Fetcher;
use crate::archive::index::Index;
use crate::archive::keyring::Keyring;
use crate::archive::suite::{Suites, Updates};
use crate::common;
use crate::error::DepotError;
use crate::ext4::IMAGE_FILE;
use crate::image::{Built, RoleImage, RoleImageRequest};
use crate::inputs::{self, Record};
use crate::install::{Install, Way};
use crate::larder::{CONNECTIONS, Closing, Larder};
use crate::lock::{Lock, LockError, PinnedPackage, RoleLock, sorted};
use crate::mirrors::Mirrors;
use crate::modules::Modules;
use crate::progress::{Progress, Stage};
use crate::role::RoleBuild;
use crate::roots::{self, Root};
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, Work, remove_tree};
use crate::unpack::Unpacking;
use crate::{base, files, seal, tree};

/// The Debian release that images are made of.
pub(crate) const SUITE: &str = "trixie";

/// Roles have this much in common before a root of it is worth its copy.
const COMMON_WORTH: usize = 8;

/// What a run works with.
pub(crate) struct Run<'a> {
    pub(crate) store: &'a Store,
    pub(crate) program: &'a Path,
    pub(crate) mirrors: &'a Mirrors,
    pub(crate) requests: &'a [RoleImageRequest],
    pub(crate) lock: Option<&'a Lock>,
    pub(crate) progress: &'a dyn Progress,
    /// Whose signatures on the archive's release files count.
    pub(crate) keyring: &'a Keyring,
    pub(crate) wanted: Wanted,
    pub(crate) way: Way,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To the images.
    Images,
    /// To the lock: packages of roles are chosen, not fetched.
    Lock,
}

/// A request with what is known of it.
struct Order<'a> {
    request: &'a RoleImageRequest,
    modules: Option<Modules>,
    pins: Option<Vec<PinnedPackage>>,
}

impl Order<'_> {
    fn inputs(&self) -> Option<BTreeMap<String, String>> {
        Some(inputs::of(self.request, self.pins.as_deref()?, self.modules.as_ref()))
    }
}

impl Run<'_> {
    /// Does all of it.
    pub(crate) fn run(&self) -> Result<Built, DepotError> {
        if let Some(lock) = self.lock.filter(|lock| lock.suite != SUITE) {
            return Err(LockError::Suite(lock.suite.clone(), SUITE).into());
        }
        let work = self.store.work("images", ScratchIn::MemoryIfPlenty)?;
        inputs::remove_unfinished(self.store)?;
        let mut orders = self.orders()?;
        if let Some(images) = self.all_cached(&orders) {
            let base = self.lock.map(|lock| lock.base.clone()).unwrap_or_default();
            return Ok(Built { images, lock: self.new_lock(&orders, base) });
        }
        self.build_with_larder(&work, &mut orders)
    }

    /// A root tree with the base's tools: any that is kept, else a new base.
    pub(crate) fn tools(&self) -> Result<PathBuf, DepotError> {
        let work = self.store.work("images", ScratchIn::MemoryIfPlenty)?;
        let any = || roots::kept(self.store).map(|kept| kept.first().map(Root::tree));
        if let Some(tree) = any()? {
            return Ok(tree);
        }
        self.build_with_larder(&work, &mut [])?;
        any()?.ok_or(DepotError::Stopped)
    }

    fn build_with_larder(
        &self,
        work: &Work,
        orders: &mut [Order<'_>],
    ) -> Result<Built, DepotError> {
        let fetcher = Fetcher::new(self.mirrors, CONNECTIONS)?;
        let larder = Larder::new(self.store, &fetcher, work.dir(), self.progress);
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| larder.download_loop());
            }
            for _ in 0..cores() {
                scope.spawn(|| larder.check_loop());
            }
            let _closing = Closing(&larder);
            self.build(work, &fetcher, &larder, orders)
        })
    }

    fn orders(&self) -> Result<Vec<Order<'_>>, DepotError> {
        let mut measured: BTreeMap<&Path, Modules> = BTreeMap::new();
        let mut orders = Vec::new();
        for request in self.requests {
            let modules = match request.modules.as_deref() {
                Some(path) => {
                    if !measured.contains_key(path) {
                        measured.insert(path, Modules::measure(path)?);
                    }
                    measured.get(path).cloned()
                }
                None => None,
            };
            let pins = self.lock.and_then(|lock| lock.pins(&request.role, &request.packages));
            orders.push(Order { request, modules, pins: pins.map(<[_]>::to_vec) });
        }
        Ok(orders)
    }

    fn all_cached(&self, orders: &[Order<'_>]) -> Option<Vec<RoleImage>> {
        orders.iter().map(|order| self.cached(order)).collect()
    }

    fn cached(&self, order: &Order<'_>) -> Option<RoleImage> {
        inputs::find(self.store, &order.request.role, &inputs::key(&order.inputs()?))
    }

    fn build(
        &self,
        work: &Work,
        fetcher: &Fetcher,
        larder: &Larder<'_>,
        orders: &mut [Order<'_>],
    ) -> Result<Built, DepotError> {
        let index = self.index(fetcher, orders)?;
        let base_pins = self.base_pins(index.as_ref())?;
        for pins in orders.iter().filter_map(|order| order.pins.as_ref()) {
            larder.want(pins.iter().filter(|pin| !base_pins.contains(pin)), false)?;
        }
        let mut known = roots::kept(self.store)?;
        let mut new = Vec::new();
        let base = match known.iter().find(|root| root.packages == base_pins) {
            Some(root) => {
                let (tree, status) = (root.tree(), root.status()?);
                self.resolve(work, index.as_ref(), &tree, &status, &base_pins, larder, orders)?;
                root.clone()
            }
            None => {
                let root = self.new_base(work, index.as_ref(), base_pins, larder, orders)?;
                new.push(root.clone());
                known.push(root.clone());
                root
            }
        };
        if self.wanted == Wanted::Lock {
            self.count(work, &new, &[])?;
            return Ok(Built { images: Vec::new(), lock: self.new_lock(orders, base.packages) });
        }
        let to_build: Vec<&Order<'_>> =
            orders.iter().filter(|order| self.cached(order).is_none()).collect();
        if let Some(root) = self.common_root(work, &base, &known, &to_build, larder)? {
            new.push(root.clone());
            known.push(root);
        }
        let records = self.role_roots(work, &base, &known, &to_build, larder)?;
        self.count(work, &new, &records)?;
        let lock = self.new_lock(orders, base.packages);
        let missing = || DepotError::Stopped;
        let built: Vec<&str> = records.iter().map(|(key, _)| key.as_str()).collect();
        let images = orders.iter().map(|order| {
            let mut image = self.cached(order).ok_or_else(missing)?;
            image.reused = !built.contains(&image.key.as_str());
            Ok(image)
        });
        Ok(Built { images: images.collect::<Result<_, DepotError>>()?, lock })
    }

    /// The archive's index, unless the lock makes it needless.
    fn index(&self, fetcher: &Fetcher, orders: &[Order<'_>]) -> Result<Option<Index>, DepotError> {
        let locked_base = self.lock.is_some_and(|lock| !lock.base.is_empty());
        if locked_base && orders.iter().all(|order| order.pins.is_some()) {
            return Ok(None);
        }
        let timer = Timer::start(self.progress, "index", Stage::Index, SUITE.to_owned());
        let suites = Suites {
            fetcher,
            keyring: self.keyring,
            dir: &self.store.folder("index"),
            progress: self.progress,
            subject: "index",
        };
        let index = suites.index(SUITE, Updates::Take)?;
        timer.finish(self.progress);
        Ok(Some(index))
    }

    fn base_pins(&self, index: Option<&Index>) -> Result<Vec<PinnedPackage>, DepotError> {
        if let Some(lock) = self.lock.filter(|lock| !lock.base.is_empty()) {
            return Ok(lock.base.clone());
        }
        let problem = |problem: String| DepotError::Index { suite: SUITE.to_owned(), problem };
        let index = index.ok_or_else(|| problem("was not read".to_owned()))?;
        let missing = |names: Vec<String>| problem(format!("lacks {}", names.join(", ")));
        let numbers = index.base().map_err(missing)?;
        let pin = |number: usize| {
            let name = index.stanza(number).get("Package").unwrap_or("?").to_owned();
            index.pin(number).ok_or_else(|| problem(format!("describes {name} incompletely")))
        };
        Ok(sorted(numbers.into_iter().map(pin).collect::<Result<_, _>>()?))
    }

    /// Unpacks a new base root; then configures it while roles are resolved in it.
    fn new_base(
        &self,
        work: &Work,
        index: Option<&Index>,
        pins: Vec<PinnedPackage>,
        larder: &Larder<'_>,
        orders: &mut [Order<'_>],
    ) -> Result<Root, DepotError> {
        let tree = work.dir().join("base");
        base::prepare(&tree)?;
        let detail = format!("{} packages", pins.len());
        let timer = Timer::start(self.progress, "base", Stage::Unpack, detail);
        larder.want(&pins, true)?;
        let left = |deb: &Deb| deb.unpack(&tree, &base::is_kept);
        let conffiles = Conffiles::Live;
        let left = Unpacking { larder, root: &tree, conffiles, left: &left }.run(&pins)?;
        timer.finish(self.progress);
        let controls = larder.controls(&pins)?;
        let status: String = controls
            .iter()
            .map(|control| format!("{control}Status: install ok installed\n\n"))
            .collect();
        let left: Vec<_> = pins.iter().filter(|pin| left.contains(&pin.name)).collect();
        let configured = std::thread::scope(|scope| {
            let configure = scope.spawn(|| {
                let timer = Timer::start(self.progress, "base", Stage::Configure, String::new());
                base::configure(self.program, &tree, larder, &left)?;
                timer.finish(self.progress);
                Ok(())
            });
            let resolved = self.resolve(work, index, &tree, &status, &pins, larder, orders);
            let configured = configure.join().unwrap_or(Err(DepotError::Stopped));
            resolved.and(configured)
        });
        configured?;
        common::verify("base", &tree, &pins)?;
        Root::keep(self.store, &tree, pins)
    }

    /// Has apt choose the packages of the roles that the lock does not pin, and asks
    /// for them.
    #[expect(clippy::too_many_arguments, reason = "all of it is the run's state at this point")]
    fn resolve(
        &self,
        work: &Work,
        index: Option<&Index>,
        root: &Path,
        status: &str,
        base: &[PinnedPackage],
        larder: &Larder<'_>,
        orders: &mut [Order<'_>],
    ) -> Result<(), DepotError> {
        let open: Vec<_> = orders.iter().filter(|order| order.pins.is_none()).collect();
        let (Some(index), false) = (index, open.is_empty()) else { return Ok(()) };
        let roles: Vec<_> =
            open.iter().map(|o| (o.request.role.as_str(), &o.request.packages)).collect();
        let detail = format!("{} roles", roles.len());
        let timer = Timer::start(self.progress, "packages", Stage::Resolve, detail);
        let dir = work.dir().join("resolve");
        let program = self.program;
        let resolver = Resolver { program, root, status, index, base, dir: &dir, suite: SUITE };
        let mut resolved = resolver.resolve(&roles)?;
        timer.finish(self.progress);
        for order in orders.iter_mut().filter(|order| order.pins.is_none()) {
            order.pins = resolved.remove(&order.request.role);
        }
        let build =
            |order: &&Order<'_>| self.wanted == Wanted::Images && self.cached(order).is_none();
        for order in orders.iter().filter(build) {
            let pins = order.pins.iter().flatten();
            larder.want(pins.filter(|pin| !base.contains(pin)), false)?;
        }
        Ok(())
    }

    /// A root of what the roles to be built share, when that is worth it.
    fn common_root(
        &self,
        work: &Work,
        base: &Root,
        known: &[Root],
        orders: &[&Order<'_>],
        larder: &Larder<'_>,
    ) -> Result<Option<Root>, DepotError> {
        let sets: Vec<&[PinnedPackage]> =
            orders.iter().filter_map(|order| order.pins.as_deref()).collect();
        let shared = common::shared(&sets, &base.packages);
        if sets.len() < 2
            || shared.len() < COMMON_WORTH
            || !sets.iter().all(|set| base.is_part_of(set))
        {
            return Ok(None);
        }
        let controls = larder.controls(&shared)?;
        let added = common::closed(shared.into_iter().zip(controls).collect(), &base.status()?);
        let packages = sorted(added.iter().chain(&base.packages).cloned().collect());
        if added.len() < COMMON_WORTH || known.iter().any(|root| root.packages == packages) {
            return Ok(None);
        }
        let tree = work.dir().join("common");
        let timer = Timer::start(self.progress, "common", Stage::Copy, String::new());
        tree::copy(&base.tree(), &tree)?;
        timer.finish(self.progress);
        let detail = format!("{} packages", added.len());
        let timer = Timer::start(self.progress, "common", Stage::Install, detail);
        let (program, pool) = (self.program, &work.dir().join("pool-common"));
        let way = self.way;
        Install { program, subject: "common", root: &tree, pool, larder, way }.run(&added)?;
        common::verify("common", &tree, &packages)?;
        timer.finish(self.progress);
        Root::keep(self.store, &tree, packages).map(Some)
    }

    /// Builds the roles, as many at a time as there are cores.
    fn role_roots(
        &self,
        work: &Work,
        base: &Root,
        known: &[Root],
        orders: &[&Order<'_>],
        larder: &Larder<'_>,
    ) -> Result<Vec<(String, Record)>, DepotError> {
        let mut queue = BTreeMap::new();
        for order in orders {
            let (Some(pins), Some(inputs)) = (order.pins.as_deref(), order.inputs()) else {
                return Err(DepotError::Stopped);
            };
            let parent = known.iter().filter(|root| root.is_part_of(pins));
            let parent = parent.max_by_key(|root| root.packages.len()).unwrap_or(base);
            let (request, modules) = (order.request, order.modules.as_ref());
            let key = inputs::key(&inputs);
            let build = RoleBuild {
                request,
                modules,
                pins,
                inputs,
                parent,
                key: key.clone(),
                program: self.program,
                tools: base,
                store: self.store,
                dir: work.dir(),
                larder,
                progress: self.progress,
                way: self.way,
                alone: orders.len() == 1,
            };
            // Two roles that are the same are one image.
            queue.insert(key, build);
        }
        let workers = cores().min(queue.len());
        let queue = Mutex::new(queue);
        let next = || queue.lock().ok().and_then(|mut queue| queue.pop_last());
        let one = || {
            let mut done = Vec::new();
            while let Some((key, build)) = next() {
                match build.run() {
                    Ok(record) => done.push((key, record)),
                    Err(error) => {
                        // The others finish what they are at and begin nothing new.
                        while next().is_some() {}
                        return Err(error);
                    }
                }
            }
            Ok(done)
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(one)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
            threads.into_iter().map(|t| join(t).unwrap_or(Err(DepotError::Stopped))).collect()
        });
        let mut records = Vec::new();
        for outcome in outcomes {
            records.extend(outcome?);
        }
        Ok(records)
    }

    /// Writes everything to disk, once, then the records that make it count.
    fn count(
        &self,
        work: &Work,
        new: &[Root],
        records: &[(String, Record)],
    ) -> Result<(), DepotError> {
        // What is not kept need not be written; in memory that costs nothing.
        if work.dir().starts_with(self.store.folder("temp")) {
            remove_tree(work.dir())?;
        }
        std::thread::scope(|scope| {
            let cleared = scope.spawn(|| remove_tree(work.dir()));
            let synced = scope.spawn(|| files::sync_all(&self.store.folder("images")));
            for (key, _) in records {
                seal::close(&inputs::folder(self.store, key), &[IMAGE_FILE])?;
            }
            new.iter().try_for_each(Root::seal)?;
            cleared.join().unwrap_or(Err(DepotError::Stopped))?;
            synced.join().unwrap_or(Err(DepotError::Stopped))
        })?;
        new.iter().try_for_each(Root::note)?;
        for (key, record) in records {
            inputs::note(&inputs::folder(self.store, key), record)?;
        }
        Ok(())
    }

    fn new_lock(&self, orders: &[Order<'_>], base: Vec<PinnedPackage>) -> Lock {
        let mut lock = self.lock.cloned().unwrap_or_default();
        SUITE.clone_into(&mut lock.suite);
        lock.base = base;
        for order in orders {
            let requested = order.request.packages.clone();
            let packages = order.pins.clone().unwrap_or_default();
            lock.roles.insert(order.request.role.clone(), RoleLock { requested, packages });
        }
        lock
    }
}

/// How many things are worth doing at a time.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The final folder of an image, made empty.
pub(crate) fn image_folder(store: &Store, key: &str) -> Result<PathBuf, DepotError> {
    let folder = inputs::folder(store, key);
    remove_tree(&folder)?;
    fs::create_dir(&folder).map_err(DepotError::io("make", &folder))?;
    Ok(folder)
}
