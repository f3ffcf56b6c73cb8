//! A container image with nothing in it but netsnoop and licences, as one file that docker, podman, skopeo and containerd
//! load: an OCI layout (<https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>) that is a `docker save`
//! too (<https://github.com/moby/moby/blob/v28.0.0/image/tarexport/load.go>). Both name the same blobs.

use std::env::consts::ARCH;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::contents::{Contents, DESCRIPTION, VERSION};
use super::sums;
use super::tree::{self, Tree};

/// No registry has it: a name of one, `docker.io` being what a bare name means, might be somebody else's.
const REPOSITORY: &str = "localhost/netsnoop";
/// Where a shell in the container, or whoever looks into it, finds netsnoop.
const FOLDER: &str = "usr/bin";

/// The file.
pub(super) fn pack(contents: &Contents) -> Result<Vec<u8>> {
    let layer = layer(contents).archive("", contents.epoch)?;
    let packed = tree::gzip(&layer)?;
    let mut blobs = Blobs(Tree::default());
    let layers = [blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", &packed)];
    let config = blobs.add_json("application/vnd.oci.image.config.v1+json", &config(contents, &layer)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor,
        "layers": layers.each_ref().map(|layer| &layer.descriptor),
    });
    let mut manifest = blobs.add_json("application/vnd.oci.image.manifest.v1+json", &manifest)?;
    let name = format!("{REPOSITORY}:{VERSION}");
    manifest.descriptor["platform"] = json!({"architecture": architecture(), "os": "linux"});
    // The first is containerd's, the second the specification's.
    manifest.descriptor["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": VERSION});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest.descriptor],
    });
    let for_docker = json!([{"Config": config.path, "RepoTags": [name], "Layers": layers.each_ref().map(|layer| &layer.path)}]);
    let Blobs(mut file) = blobs;
    file.add("oci-layout", write(&json!({"imageLayoutVersion": "1.0.0"}))?);
    file.add("index.json", write(&index)?);
    file.add("manifest.json", write(&for_docker)?);
    file.archive("", contents.epoch)
}

/// The root that a container gets.
fn layer(contents: &Contents) -> Tree {
    let mut root = Tree::default();
    root.add_program(&format!("{FOLDER}/netsnoop"), &*contents.program);
    for license in contents.licenses() {
        root.add(&format!("usr/share/doc/netsnoop/{}", license.name), &*license.text);
    }
    root
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
fn config(contents: &Contents, layer: &[u8]) -> Result<Value> {
    let seconds = contents.epoch.try_into().context("the sources are from a far future")?;
    let created = Timestamp::from_second(seconds).context("the sources are from a far future")?.to_string();
    // <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
    let mut labels = json!({
        "org.opencontainers.image.title": "netsnoop",
        "org.opencontainers.image.description": DESCRIPTION,
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    });
    if let Some(revision) = &contents.revision {
        labels["org.opencontainers.image.revision"] = json!(revision);
    }
    Ok(json!({
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": [format!("PATH=/{FOLDER}")],
            "Entrypoint": ["netsnoop"],
            "Cmd": ["agent"],
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sums::of(layer))]},
        "history": [{"created": created, "created_by": "cargo xtask dist"}],
    }))
}

/// As Go, and so every image, calls this machine.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("writing JSON")
}

/// Files that are named by their sums.
struct Blobs(Tree);

struct Blob {
    path: String,
    /// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>
    descriptor: Value,
}

impl Blobs {
    fn add(&mut self, media_type: &str, bytes: &[u8]) -> Blob {
        let sum = sums::of(bytes);
        let path = format!("blobs/sha256/{sum}");
        self.0.add(&path, bytes);
        let descriptor =
            json!({"mediaType": media_type, "digest": format!("sha256:{sum}"), "size": bytes.len()});
        Blob { path, descriptor }
    }

    fn add_json(&mut self, media_type: &str, value: &Value) -> Result<Blob> {
        Ok(self.add(media_type, &write(value)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes);
        }
        files
    }

    /// The blob that a descriptor is about, which has the size and sum that it says.
    fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let sum = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = &files[&format!("blobs/sha256/{sum}")];
        assert_eq!(
            (sums::of(bytes), bytes.len() as u64),
            (sum.to_owned(), descriptor["size"].as_u64().unwrap())
        );
        bytes
    }

    #[test]
    fn both_ways_into_an_image_lead_to_the_same_root() {
        let files = unpack(&pack(&Contents::example()).unwrap());
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let manifest = parse(follow(&files, &parse(&files["index.json"])["manifests"][0]));
        let for_docker = parse(&files["manifest.json"]);
        for (descriptor, path) in [
            (&manifest["config"], &for_docker[0]["Config"]),
            (&manifest["layers"][0], &for_docker[0]["Layers"][0]),
        ] {
            assert_eq!(files[path.as_str().unwrap()], follow(&files, descriptor));
        }
        let config = parse(follow(&files, &manifest["config"]));
        assert_eq!(config["created"], "1970-01-01T00:00:07Z");
        let mut layer = Vec::new();
        let packed = follow(&files, &manifest["layers"][0]);
        flate2::read::GzDecoder::new(packed).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sums::of(&layer)));
        let root = unpack(&layer);
        assert_eq!(root["usr/bin/netsnoop"], b"program");
        assert!(root.contains_key("usr/share/doc/netsnoop/LICENSE-MIT"), "{:?}", root.keys());
    }

    #[test]
    fn an_image_of_the_containerfile_starts_the_same() {
        let containerfile = include_str!("../../../deploy/image/Containerfile");
        let config = &config(&Contents::example(), b"").unwrap()["config"];
        for line in [
            format!("ENV {}", config["Env"][0].as_str().unwrap()),
            format!("ENTRYPOINT {}", config["Entrypoint"]),
            format!("CMD {}", config["Cmd"]),
        ] {
            assert!(containerfile.lines().any(|known| known == line), "{line}");
        }
    }
}
