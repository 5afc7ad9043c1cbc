use super::*;

#[test]
fn node_names_are_dns_labels() {
    for good in ["ce", "wn1", "a-b", &"a".repeat(32)] {
        assert_eq!(node(good), Ok(()), "{good}");
    }
    for bad in ["", "1ce", "CE", "a_b", "a-", "-a", "a.b", "é", "localhost", &"a".repeat(33)] {
        assert!(node(bad).is_err(), "{bad}");
    }
}

#[test]
fn domains_may_begin_with_a_digit_but_are_no_addresses() {
    for good in ["dublin.test", "2x.test", "test", "a.b.c.d"] {
        assert_eq!(domain(good), Ok(()), "{good}");
    }
    for bad in ["", ".", "a.", "a..b", "-a.b", "A.b", "1.2.3.4", "a b", &"a".repeat(65)] {
        assert!(domain(bad).is_err(), "{bad}");
    }
}

#[test]
fn users_do_not_take_system_names() {
    assert_eq!(user("alice"), Ok(()));
    for bad in ["root", "slurm", "systemd-foo", "Alice", "9a", "a:b", ""] {
        assert!(user(bad).is_err(), "{bad}");
    }
}

#[test]
fn full_names_cannot_break_a_subject_or_passwd() {
    assert_eq!(full_name("Seán".replace('á', "a").as_str()), Ok(()));
    assert_eq!(full_name("John O'Neill (Jr.)"), Ok(()));
    for bad in ["", " x", "a/CN=b", "a:b", "a,b", "Zoë", "a\nb", "a\"b"] {
        assert!(full_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn paths_take_no_detours() {
    for good in ["/etc/x", "/a b", "/é"] {
        assert_eq!(path(good), Ok(()), "{good}");
    }
    for bad in ["", "/", "etc", "/etc/", "//etc", "/etc/../x", "/./x", "/a\nb"] {
        assert!(path(bad).is_err(), "{bad}");
    }
}

#[test]
fn modes_are_octal_strings() {
    assert_eq!(mode("0644"), Ok(0o644));
    assert_eq!(mode("4755"), Ok(0o4755));
    for bad in ["", "7", "0999", "rw-r--r--", "00644", "+644"] {
        assert!(mode(bad).is_err(), "{bad}");
    }
}

#[test]
fn package_names_follow_debian_policy() {
    for good in ["vim-tiny", "g++", "libc6", "2ping", "a.b"] {
        assert_eq!(package(good), Ok(()), "{good}");
    }
    for bad in ["", "a", "-o", "Vim", "a b", "a;rm", "a=1", "+a", &"a".repeat(101)] {
        assert!(package(bad).is_err(), "{bad}");
    }
}
