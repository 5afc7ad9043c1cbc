//! Signatures made with keys for these tests alone (`tests/signed`); the secret
//! halves were thrown away. "Old" was valid during 2020.

use proptest::prelude::*;

use super::*;

const KEYS: &[u8] = include_bytes!("../../tests/signed/keys.pgp");
const GOOD: &str = include_str!("../../tests/signed/good.txt");
const EXPIRED: &str = include_str!("../../tests/signed/expired.txt");
const STRANGER: &str = include_str!("../../tests/signed/stranger.txt");

/// The first of 2030 and the first of March 2020.
const IN_2030: u64 = 1_893_456_000;
const IN_2020: u64 = 1_583_020_800;

fn keyring() -> Keyring {
    Keyring::of(SignedPublicKey::from_bytes_many(KEYS).unwrap().map(Result::unwrap).collect())
}

#[test]
fn all_of_debians_keys_are_there() {
    let keyring = Keyring::debian();
    assert_eq!(keyring.keys.len(), EMBEDDED.len());
    for key in &keyring.keys {
        let name = format!("{:X}", key.primary_key.fingerprint());
        check_owner(key, &name, 1_780_000_000).unwrap();
    }
}

#[test]
fn accepts_a_subkeys_signature_and_gives_the_signed_text() {
    let text = keyring().verify(GOOD, IN_2030).unwrap();
    assert!(text.starts_with("Suite: stable\nCodename: trixie\nSHA256:\n - not a hash"), "{text}");
}

#[test]
fn an_expired_key_counts_only_in_its_time() {
    let error = keyring().verify(EXPIRED, IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::Expired(_)), "{error}");
    assert!(keyring().verify(EXPIRED, IN_2020).is_ok());
}

#[test]
fn refuses_altered_unknown_future_and_unsigned() {
    let error = keyring().verify(&GOOD.replace("stable", "st4ble"), IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::Altered(_)), "{error}");
    let error = keyring().verify(STRANGER, IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::UnknownKey(_)), "{error}");
    let error = keyring().verify(GOOD, IN_2020).unwrap_err();
    assert!(matches!(error, SignatureError::Unfit(..)), "{error}");
    let error = keyring().verify("Suite: stable\n", IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::NotSigned(_)), "{error}");
    let error = keyring().verify(&format!("Injected: yes\n{GOOD}"), IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::NotSigned(_)), "{error}");
}

#[test]
fn a_subkey_without_its_binding_does_not_count() {
    let mut keyring = keyring();
    for key in &mut keyring.keys {
        for subkey in &mut key.public_subkeys {
            subkey.signatures.clear();
        }
    }
    let error = keyring.verify(GOOD, IN_2030).unwrap_err();
    assert!(matches!(error, SignatureError::NotForSigning(_)), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_altered_letter_is_accepted(at in 0_usize..60, letter in "[a-zA-Z]") {
        let start = GOOD.find("Suite").unwrap();
        let mut altered = GOOD.to_owned();
        let at = start + at % 30;
        altered.replace_range(at..=at, &letter);
        if altered != GOOD {
            prop_assert!(keyring().verify(&altered, IN_2030).is_err());
        }
    }
}
