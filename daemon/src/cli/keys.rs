//! `genkey`, `genpsk` and `pubkey`, as `wg(8)` has them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::print_line;
use wireguard::key::{KeyError, PresharedKey, PrivateKey, PublicKey};

/// Prints a new private key.
pub fn genkey() -> anyhow::Result<()> {
    warn_if_world_can_access();
    print_line(&Zeroizing::new(PrivateKey::generate().to_base64()))
}

/// Prints a new preshared key.
pub fn genpsk() -> anyhow::Result<()> {
    warn_if_world_can_access();
    print_line(&Zeroizing::new(PresharedKey::generate().to_base64()))
}

/// Prints the public key of the private key on standard input.
pub fn pubkey() -> anyhow::Result<()> {
    let public = public_of(io::stdin().lock()).context("standard input holds no private key")?;
    print_line(&public.to_base64())
}

fn public_of(input: impl io::Read) -> anyhow::Result<PublicKey> {
    // More than a key and its white space: enough to tell, whatever is poured in.
    const MOST: u64 = 256;
    let mut text = Zeroizing::new(Vec::with_capacity(MOST as usize));
    input.take(MOST).read_to_end(&mut text)?;
    let text = std::str::from_utf8(&text).map_err(|_| KeyError::Base64)?;
    Ok(PrivateKey::from_base64(text.trim())?.public())
}

fn warn_if_world_can_access() {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    if stdout.is_ok_and(|file| world_can_access(&file)) {
        eprintln!(
            "hpetun: warning: writing a secret key to a world accessible file; set the umask to 077 first"
        );
    }
}

fn world_can_access(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o007 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn pubkey_reads_what_genkey_prints() {
        // The first key pair of RFC 7748, section 6.1.
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let public = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        for text in [
            private.to_owned(),
            format!("{private}\n"),
            format!(" {private} \r\n"),
        ] {
            assert_eq!(
                public_of(text.as_bytes()).unwrap().to_base64(),
                public,
                "{text:?}"
            );
        }
    }

    #[test]
    fn pubkey_refuses_what_is_no_key() {
        let endless = io::repeat(b'A');
        assert!(public_of(endless).is_err());
        for bad in [
            "",
            "\n",
            "hello",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo",
            "\u{ff}",
        ] {
            let error = public_of(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("44 characters"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn only_files_open_to_the_world_are_warned_of() {
        let file = tempfile::tempfile().unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        assert!(!world_can_access(&file));
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        assert!(world_can_access(&file));
        assert!(!world_can_access(&File::open("/dev/null").unwrap()));
    }
}
