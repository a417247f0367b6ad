//! Credentials and addresses of object storage, from the places where other programs look for them too.
//!
//! ```text
//! S3      AWS_* variables, else the profile AWS_PROFILE of ~/.aws/credentials and ~/.aws/config; then what the crate finds on a machine in the cloud
//! Google  GOOGLE_* variables, else the file that gcloud writes
//! Azure   AZURE_* variables
//! ```

use crate::settings;
use anyhow::{Context as _, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use vml_core::object::Service;
use vml_core::{Error, ErrorKind};

/// Longest file of profiles that is read.
const FILE_MAX: u64 = 1 << 20;
/// What a profile may give; the names are those of the variables, and mostly of the files too.
const PROFILE_KEYS: [(&str, &str); 5] = [
    ("aws_access_key_id", "aws_access_key_id"),
    ("aws_secret_access_key", "aws_secret_access_key"),
    ("aws_session_token", "aws_session_token"),
    ("region", "aws_region"),
    ("endpoint_url", "aws_endpoint_url"),
];
/// Variables that name another way to credentials.
const OTHER_WAYS: [&str; 5] = [
    "aws_access_key_id",
    "aws_web_identity_token_file",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_skip_signature",
];

/// Names and values for the service.
pub fn options(service: Service) -> Result<Vec<(String, String)>> {
    match service {
        Service::S3 => {
            let found = settings::variables("AWS_");
            let file = |variable: &str, usual: &str| {
                let named = found.iter().find(|(name, _)| name == variable).map(|(_, value)| PathBuf::from(value));
                named.or_else(|| settings::in_home(usual))
            };
            let files =
                [(file("aws_shared_credentials_file", ".aws/credentials"), ""), (file("aws_config_file", ".aws/config"), "profile ")];
            let texts: Vec<(String, &str)> = files
                .into_iter()
                .filter_map(|(path, mark)| path.and_then(|path| read(&path).transpose()).map(|text| Ok((text?, mark))))
                .collect::<Result<_>>()?;
            s3(found, &texts)
        }
        Service::Google => {
            let mut found = settings::variables("GOOGLE_");
            let named =
                found.iter().any(|(name, _)| name.starts_with("google_service_account") || name == "google_application_credentials");
            if let (false, Some(file)) =
                (named, settings::in_home(".config/gcloud/application_default_credentials.json").filter(|file| file.is_file()))
            {
                found.push(("google_application_credentials".to_owned(), file.to_string_lossy().into_owned()));
            }
            Ok(found)
        }
        Service::Azure => Ok(settings::variables("AZURE_")),
    }
}

/// Variables first, then the profile.
fn s3(mut found: Vec<(String, String)>, files: &[(String, &str)]) -> Result<Vec<(String, String)>> {
    let get = |found: &[(String, String)], wanted: &str| found.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let chosen = get(&found, "aws_profile");
    let name = chosen.clone().unwrap_or_else(|| "default".to_owned());
    let mut profile = HashMap::new();
    for (text, mark) in files {
        for (key, value) in section(text, &name, mark) {
            profile.entry(key).or_insert(value);
        }
    }
    if chosen.is_some() && profile.is_empty() {
        bail!(Error::invalid(format!("there is no profile {name:?} in ~/.aws/credentials and ~/.aws/config, which AWS_PROFILE names")));
    }
    let has_way = OTHER_WAYS.iter().any(|way| get(&found, way).is_some());
    let region = get(&found, "aws_region").or_else(|| get(&found, "aws_default_region"));
    for (key, name) in PROFILE_KEYS {
        let is_credential = name.starts_with("aws_access") || name.starts_with("aws_secret") || name.starts_with("aws_session");
        let wanted = match name {
            "aws_region" => region.is_none(),
            _ if is_credential => !has_way,
            name => get(&found, name).is_none(),
        };
        if let (true, Some(value)) = (wanted, profile.get(key)) {
            found.push((name.to_owned(), value.clone()));
        }
    }
    if !has_way && get(&found, "aws_access_key_id").is_none() {
        if profile.keys().any(|key| key.starts_with("sso_") || key == "role_arn" || key == "credential_process") {
            let text = format!("the profile {name:?} gets its credentials in a way that vml does not know");
            let advice = "put them into variables: eval \"$(aws configure export-credentials --format env)\"";
            bail!(Error::new(ErrorKind::PermissionDenied, format!("{text}: {advice}")));
        }
        if get(&found, "aws_ec2_metadata_disabled").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            bail!(Error::new(
                ErrorKind::PermissionDenied,
                "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ));
        }
    }
    Ok(found)
}

/// Keys and values of one section of an INI file, in small letters.
fn section<'a>(text: &'a str, name: &str, mark: &str) -> impl Iterator<Item = (String, String)> + 'a {
    let heads = [format!("[{mark}{name}]"), if name == "default" { "[default]".to_owned() } else { format!("[{mark}{name}]") }];
    let mut inside = false;
    text.lines().filter_map(move |line| {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            inside = heads.iter().any(|head| trimmed.split(['#', ';']).next().is_some_and(|start| start.trim() == head));
            return None;
        }
        // What is indented belongs to the line before.
        if !inside || line.starts_with([' ', '\t']) || trimmed.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = trimmed.split_once('=')?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        (!value.is_empty()).then_some((key, value))
    })
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= FILE_MAX => {}
        Ok(_) => bail!(Error::invalid(format!("{} is no file of profiles", path.display()))),
        Err(_) => return Ok(None),
    }
    fs::read_to_string(path).map(Some).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn value<'a>(found: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
        found.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    const CREDENTIALS: &str =
        "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=SA\n\n[cern]\naws_access_key_id = C\naws_secret_access_key = SC\n";
    const CONFIG: &str = "[default]\nregion = eu-central-1\n[profile cern] ; ours\nendpoint_url = https://s3.cern.ch\ns3 =\n  region = nested\n[profile sso]\nsso_session = x\n";

    #[test]
    fn variables_go_before_the_profile() {
        let files = [(CREDENTIALS.to_owned(), ""), (CONFIG.to_owned(), "profile ")];
        let found = s3(Vec::new(), &files).unwrap();
        assert_eq!((value(&found, "aws_access_key_id"), value(&found, "aws_region")), (Some("A"), Some("eu-central-1")));
        let found = s3(pairs(&[("aws_profile", "cern")]), &files).unwrap();
        assert_eq!((value(&found, "aws_secret_access_key"), value(&found, "aws_region")), (Some("SC"), None));
        assert_eq!(value(&found, "aws_endpoint_url"), Some("https://s3.cern.ch"));
        let found = s3(pairs(&[("aws_access_key_id", "E"), ("aws_secret_access_key", "SE"), ("aws_default_region", "r")]), &files).unwrap();
        assert_eq!((value(&found, "aws_access_key_id"), value(&found, "aws_region")), (Some("E"), None));
        assert_eq!(
            found.iter().filter(|(name, _)| name == "aws_access_key_id").count(),
            1,
            "a key of one place and a secret of another are none"
        );
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let files = [(CREDENTIALS.to_owned(), ""), (CONFIG.to_owned(), "profile ")];
        let error = |found: &[(&str, &str)], files: &[(String, &str)]| s3(pairs(found), files).unwrap_err().to_string();
        assert!(error(&[("aws_profile", "other")], &files).contains("no profile \"other\""));
        assert!(error(&[("aws_profile", "sso")], &files).contains("export-credentials"));
        assert!(error(&[("aws_ec2_metadata_disabled", "true")], &[]).contains("no credentials"));
        assert!(s3(Vec::new(), &[]).unwrap().is_empty(), "a machine in the cloud may have its own");
    }
}
