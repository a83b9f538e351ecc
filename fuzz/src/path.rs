//! A canonical path is canonical, and never climbs.

use tollgate::routing::canonical_path;

pub fn check(path: &str) {
    if let Ok(canonical) = canonical_path(path) {
        let again = canonical_path(&canonical).expect("a canonical path is a path");
        assert_eq!(canonical, again);
        assert!(canonical.starts_with('/'));
        assert!(
            canonical
                .split('/')
                .all(|segment| segment != ".." && segment != ".")
        );
        assert!(!canonical.contains("//"));
        assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
