//! The catalogues that this host asks for bases: `catalogues.toml` in the home folder.

use crate::keys;
use crate::net::{Network, Url};
use crate::{files, settings};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use vml_core::catalogue::{self, CATALOGUE_MAX_LEN, Catalogue, Offer, verify_signature};
use vml_core::refs::check_name;
use vml_core::share::PublicKey;
use vml_core::{Error, ErrorKind, IoResultExt as _};

const HEAD: &str = "# Catalogues of bases that this host asks; `vml base catalogue` writes this file.\n\n";
/// A signature is far shorter.
const SIGNATURE_MAX_LEN: u64 = 64 << 10;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "catalogue")]
    catalogues: Vec<Place>,
}

/// Where a catalogue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// A name for it.
    pub name: String,
    /// Its address, or its path on this host.
    pub at: String,
    /// Whether it is used only if a key that is trusted signed it.
    #[serde(default)]
    pub require_signed: bool,
}

impl Place {
    /// One that was named on the command line.
    pub fn of(at: &str, require_signed: bool) -> Result<Self> {
        Ok(Self { name: at.to_owned(), at: located(at)?, require_signed })
    }
}

/// A catalogue that was read, and by whom it is signed.
pub struct Loaded {
    pub catalogue: Catalogue,
    pub signer: Option<PublicKey>,
    pub known_as: Option<String>,
}

/// A base that a catalogue names.
pub struct Found {
    pub offer: Offer,
    /// The catalogue's name.
    pub catalogue: String,
    pub signer: Option<PublicKey>,
    pub known_as: Option<String>,
}

fn path() -> Result<PathBuf> {
    Ok(settings::home()?.join("catalogues.toml"))
}

/// An address as it is, a path from the root.
fn located(at: &str) -> Result<String> {
    if at.contains("://") {
        return Ok(at.parse::<Url>()?.to_string());
    }
    let path = fs::canonicalize(at).at(|| format!("cannot find the catalogue {at}"))?;
    path.to_str().map(str::to_owned).ok_or_else(|| Error::invalid(format!("the path {} is not UTF-8", path.display())).into())
}

/// The catalogues of this host, in their order.
pub fn list() -> Result<Vec<Place>> {
    let path = path()?;
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(|| format!("cannot read {}", path.display()))?,
    };
    let file: File = toml::from_str(&text).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    Ok(file.catalogues)
}

fn write(catalogues: Vec<Place>) -> Result<()> {
    let path = path()?;
    let text = format!("{HEAD}{}", toml::to_string_pretty(&File { catalogues })?);
    Ok(files::replace(&path, &text, files::PUBLIC)?)
}

/// Asks one more catalogue.
pub fn add(name: &str, at: &str, require_signed: bool) -> Result<Place> {
    check_name("catalogue", name)?;
    let mut places = list()?;
    if places.iter().any(|place| place.name == name) {
        bail!(Error::new(
            ErrorKind::AlreadyExists,
            format!("there is a catalogue {name:?} already: `vml base catalogue rm {name}` removes it")
        ));
    }
    let place = Place { name: name.to_owned(), at: located(at)?, require_signed };
    places.push(place.clone());
    write(places)?;
    Ok(place)
}

/// Asks one no more.
pub fn remove(name: &str) -> Result<()> {
    let mut places = list()?;
    let before = places.len();
    places.retain(|place| place.name != name);
    if places.len() == before {
        bail!(Error::not_found(format!("there is no catalogue {name:?}; `vml base catalogue list` shows them")));
    }
    write(places)
}

/// Reads a catalogue, and its signature where there is one.
pub fn load(network: &Network, place: &Place) -> Result<Loaded> {
    load_from(network, place).with_context(|| format!("cannot use the catalogue {}", place.at))
}

fn load_from(network: &Network, place: &Place) -> Result<Loaded> {
    let bytes = get(network, &place.at, CATALOGUE_MAX_LEN)?;
    let signature = match get(network, &format!("{}.sig", place.at), SIGNATURE_MAX_LEN) {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // A server without one may say so in odd ways; that matters only where one is needed.
        Err(_) if !place.require_signed => None,
        Err(error) => return Err(error.into()),
    };
    let signer = signature.map(|armoured| verify_signature(&bytes, &armoured)).transpose()?;
    let known_as = match &signer {
        Some(key) => keys::list()?.into_iter().find(|known| known.key == *key).map(|known| known.name),
        None => None,
    };
    match (&signer, &known_as) {
        (None, _) if place.require_signed => bail!(Error::new(ErrorKind::PermissionDenied, "the catalogue is not signed")),
        (Some(key), None) if place.require_signed => {
            bail!(Error::new(ErrorKind::PermissionDenied, format!("the catalogue is signed by {key}, which is no trusted key")))
        }
        _ => {}
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::invalid("it is no text in UTF-8"))?;
    Ok(Loaded { catalogue: catalogue::read(text)?, signer, known_as })
}

fn get(network: &Network, at: &str, max: u64) -> vml_core::Result<Vec<u8>> {
    if at.contains("://") {
        return network.get_bytes(&at.parse()?, max);
    }
    let failed = || format!("cannot read {at}");
    let file = fs::File::open(Path::new(at)).at(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).at(failed)?;
    if bytes.len() as u64 > max {
        return Err(Error::invalid(format!("{at} is too long")));
    }
    Ok(bytes)
}

/// Looks for a base in catalogues, the first one that names it first; addresses of the same file in others are taken as well. Each catalogue that cannot be used is
/// told to `told`, and is an error only if no other names the base.
pub fn find(network: &Network, places: &[Place], base: &str, told: &dyn Fn(&anyhow::Error)) -> Result<Option<Found>> {
    let mut found: Option<Found> = None;
    let mut failed = None;
    for place in places {
        let loaded = match load(network, place) {
            Ok(loaded) => loaded,
            Err(error) => {
                told(&error);
                failed = failed.or(Some(error));
                continue;
            }
        };
        let Some(offer) = loaded.catalogue.find(base) else { continue };
        match &mut found {
            None => {
                found =
                    Some(Found { offer: offer.clone(), catalogue: place.name.clone(), signer: loaded.signer, known_as: loaded.known_as });
            }
            Some(first) if (first.offer.digest, first.offer.size) == (offer.digest, offer.size) => {
                let more: Vec<String> = offer.urls.iter().filter(|url| !first.offer.urls.contains(url)).cloned().collect();
                first.offer.urls.extend(more);
            }
            // By another algorithm one cannot tell; the first counts.
            Some(first) if first.offer.digest.algorithm() != offer.digest.algorithm() => {}
            Some(first) => {
                let message = format!(
                    "the catalogues {} and {} name different files for the base {base}: say which with --catalogue",
                    first.catalogue, place.name
                );
                bail!(Error::invalid(message));
            }
        }
    }
    match (found, failed) {
        (None, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}
