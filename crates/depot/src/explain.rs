//! Says why an image is reused, or why not.

use crate::image::{Explanation, RoleImageRequest};
use crate::inputs;
use crate::lock::Lock;
use crate::modules::Modules;
use crate::store::Store;

/// What decides about the image of `request`; looks only at the depot.
pub(crate) fn explain(
    store: &Store,
    request: &RoleImageRequest,
    lock: Option<&Lock>,
) -> Explanation {
    let pins = lock.and_then(|lock| lock.pins(&request.role, &request.packages));
    let modules = request.modules.as_deref().map(Modules::measure);
    let known = pins.is_some() && !matches!(modules, Some(Err(_)));
    let modules = modules.and_then(Result::ok);
    let inputs = inputs::of(request, pins.unwrap_or_default(), modules.as_ref());
    let key = known.then(|| inputs::key(&inputs));
    let reused = key.as_ref().is_some_and(|key| inputs::find(store, &request.role, key).is_some());
    let (nearest, differences) = match inputs::nearest(store, &request.role, &inputs) {
        Some((key, differences)) => (Some(key), differences),
        None => (None, Vec::new()),
    };
    let role = request.role.clone();
    Explanation { role, key, reused, inputs: inputs::listed(&inputs), nearest, differences }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ext4::IMAGE_FILE;
    use crate::inputs::Record;
    use crate::lock::RoleLock;

    #[test]
    fn names_what_differs_from_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut request = RoleImageRequest { role: "ce".to_owned(), ..Default::default() };
        let roles = [("ce".to_owned(), RoleLock::default())].into();
        let lock = Lock { roles, ..Default::default() };
        assert_eq!(explain(&store, &request, None).key, None);

        let inputs = inputs::of(&request, &[], None);
        let folder = inputs::folder(&store, &inputs::key(&inputs));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(IMAGE_FILE), b"x").unwrap();
        let record = Record { role: "ce".to_owned(), inputs, packages: Vec::new() };
        inputs::note(&folder, &record).unwrap();
        let found = explain(&store, &request, Some(&lock));
        assert!(found.reused && found.differences.is_empty() && found.nearest == found.key);

        request.overlay.masked_units.push("x.service".to_owned());
        let found = explain(&store, &request, Some(&lock));
        assert!(!found.reused && found.nearest.is_some());
        assert_eq!(found.differences[0].name, "masked x.service");
        assert_eq!(found.differences[0].cached, None);
    }
}
