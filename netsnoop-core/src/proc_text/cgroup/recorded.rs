//! Lines of `/proc/<pid>/cgroup` as people met them, by runtime, cgroup driver and cgroup version; and whence each is.
//!
//! Left out: what follows from the rules alone, which the tests beside the decoder make up.

use super::decode_cgroup_file;

/// `expected`: container id, runtime, uid of the pod.
fn check(source: &str, text: &str, expected: Option<(&str, Option<&str>, Option<&str>)>) {
    let found = decode_cgroup_file(text.as_bytes());
    let found = found
        .as_ref()
        .map(|container| (&*container.id, container.runtime, container.pod.as_ref().map(|pod| &*pod.uid)));
    assert_eq!(found, expected, "{source}: {text}");
}

#[test]
fn docker() {
    check(
        "cgroupfs driver, v1: open-telemetry/opentelemetry-java-instrumentation, ContainerInfoTest at 24632212e5de",
        "13:name=systemd:/docker/3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860\n\
         12:pids:/docker/3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860",
        Some(("3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860", Some("docker"), None)),
    );
    check(
        "before Docker made a cgroup of its own: neuvector/neuvector, share/system/cgroup_test.go, Debian",
        "10:net_prio:/4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970",
        Some(("4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970", None, None)),
    );
    check(
        "systemd driver, v1: neuvector/neuvector, share/system/cgroup_test.go, CentOS",
        "10:devices:/system.slice/docker-9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d.scope",
        Some(("9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d", Some("docker"), None)),
    );
    check(
        "systemd driver, v2: coroot/coroot-node-agent, cgroup/fixtures/proc/800",
        "0::/system.slice/docker-cf87ba651579c9231db817909e7865e5747bd7abcac0c57ce23cf4abbaee046b.scope",
        Some(("cf87ba651579c9231db817909e7865e5747bd7abcac0c57ce23cf4abbaee046b", Some("docker"), None)),
    );
    check(
        "a build has no container's id: cryptnono/cryptnono#47",
        "0::/docker/buildkit/t4967jvf8rbufklrhkicskyes",
        None,
    );
}

#[test]
fn docker_below_the_kubelet() {
    check(
        "cgroupfs driver, v1: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "4:memory:/kubepods/besteffort/pod0d08203e-255a-11e9-8cd9-0007cb0b2cc8/671a50f5d60566556912f61511d0ec9e4d5c78d53fbc4676727180438bbbbc55/kube-proxy",
        Some((
            "671a50f5d60566556912f61511d0ec9e4d5c78d53fbc4676727180438bbbbc55",
            None,
            Some("0d08203e-255a-11e9-8cd9-0007cb0b2cc8"),
        )),
    );
    check(
        "a pod from a file, v1: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "4:memory:/kubepods/burstable/pod9729a196c4723b60ab401eaff722982d/d166c6190614efc91956b78e96d74c3fbc96ca8e91948c36de3bc5b0e7b27d48",
        Some((
            "d166c6190614efc91956b78e96d74c3fbc96ca8e91948c36de3bc5b0e7b27d48",
            None,
            Some("9729a196c4723b60ab401eaff722982d"),
        )),
    );
    check(
        "guaranteed, v1: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "4:memory:/kubepods/poda38c12e8-255a-11e9-8cd9-0007cb0b2cc8/32c562ed81a2622b37b80cb216859820ba51bd694f60ee4cf10d07a4011266f8",
        Some((
            "32c562ed81a2622b37b80cb216859820ba51bd694f60ee4cf10d07a4011266f8",
            None,
            Some("a38c12e8-255a-11e9-8cd9-0007cb0b2cc8"),
        )),
    );
    check(
        "systemd driver, v1: coroot/coroot-node-agent, cgroup/fixtures/proc/400",
        "2:cpu,cpuacct:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod8712f785_1a3e_41ec_a00b_e2dcc77431cb.slice/docker-73051af271105c07e1f493b34856a77e665e3b0b4fc72f76c807dfbffeb881bd.scope",
        Some((
            "73051af271105c07e1f493b34856a77e665e3b0b4fc72f76c807dfbffeb881bd",
            Some("docker"),
            Some("8712f785-1a3e-41ec-a00b-e2dcc77431cb"),
        )),
    );
}

#[test]
fn containerd() {
    check(
        "cgroupfs driver, v1, as MicroK8s and Talos have it too: peass-ng/PEASS-ng#124",
        "12:rdma:/\n\
         11:memory:/kubepods/besteffort/pod4eede96e-e976-4573-bc90-68dfe2516d3b/c3cd4e0a7993a1c155cc1bdd3326c7b1e260226d0c2c79e3e48dbc360543c768",
        Some((
            "c3cd4e0a7993a1c155cc1bdd3326c7b1e260226d0c2c79e3e48dbc360543c768",
            None,
            Some("4eede96e-e976-4573-bc90-68dfe2516d3b"),
        )),
    );
    check(
        "cgroupfs driver below a systemd kubelet, v1: open-telemetry/opentelemetry-java#4507",
        "11:perf_event:/kubepods-besteffort-pod0125ec2f_b64a_4868_8f5b_94b56cbab864.slice:cri-containerd:ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459\n\
         10:blkio:/system.slice/containerd.service/kubepods-besteffort-pod0125ec2f_b64a_4868_8f5b_94b56cbab864.slice:cri-containerd:ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459",
        Some((
            "ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459",
            Some("containerd"),
            Some("0125ec2f-b64a-4868-8f5b-94b56cbab864"),
        )),
    );
    check(
        "the same in systemd's own hierarchy: elastic/apm-agent-nodejs#3550",
        "1:name=systemd:/system.slice/containerd.service/kubepods-burstable-podff49d0be_16b7_4a49_bb9e_8ec1f1f4e27f.slice:cri-containerd:0f99ad5f45163ed14ab8eaf92ed34bb4a631d007f8755a7d79be614bcb0df0ef",
        Some((
            "0f99ad5f45163ed14ab8eaf92ed34bb4a631d007f8755a7d79be614bcb0df0ef",
            Some("containerd"),
            Some("ff49d0be-16b7-4a49-bb9e-8ec1f1f4e27f"),
        )),
    );
    check(
        "a slice without scopes: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3e61c214bc3ed9ff81e21474dd6cba17.slice/cri-containerd-c74b0f5062f0bc726cae1e9369ad4a95deed6b298d247f0407475adb23fa3190",
        Some((
            "c74b0f5062f0bc726cae1e9369ad4a95deed6b298d247f0407475adb23fa3190",
            Some("containerd"),
            Some("3e61c214bc3ed9ff81e21474dd6cba17"),
        )),
    );
}

#[test]
fn cri_o() {
    check(
        "its first releases, v1: cri-o/cri-o#811",
        "3:cpu:/kubepods/burstable/pod58662905-8ccc-11e7-a695-c85b76cda386/1659f887a192f3515dd9b91a41d274abf29ca49de3d2330869131b2d93b45b94",
        Some((
            "1659f887a192f3515dd9b91a41d274abf29ca49de3d2330869131b2d93b45b94",
            None,
            Some("58662905-8ccc-11e7-a695-c85b76cda386"),
        )),
    );
    check(
        "cgroupfs driver, v1: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "4:memory:/kubepods/poda48c12e8-255a-11e9-8cd9-0007cb0b2cc8/crio-63425c4a8b4291744a79dd9011fddc7a1f8ffda61f65d72196aa01d00cae2e2e",
        Some((
            "63425c4a8b4291744a79dd9011fddc7a1f8ffda61f65d72196aa01d00cae2e2e",
            Some("cri-o"),
            Some("a48c12e8-255a-11e9-8cd9-0007cb0b2cc8"),
        )),
    );
    check(
        "systemd driver, v1 with a hierarchy that nobody shares: opencontainers/runc#4620",
        "13:freezer:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda5c1f8d5_1919_434d_add7_4afaafdaef89.slice/crio-5eed917563583925ffdbd40a64efb2aaffe58638e57add8becaf460fe74f5b1c.scope\n\
         11:files:/",
        Some((
            "5eed917563583925ffdbd40a64efb2aaffe58638e57add8becaf460fe74f5b1c",
            Some("cri-o"),
            Some("a5c1f8d5-1919-434d-add7-4afaafdaef89"),
        )),
    );
    check(
        "crun's own cgroup below, v2: coroot/coroot-node-agent, cgroup/cgroup_test.go",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podea19ff5d_943a_4466_a07e_a71e9e50cc62.slice/crio-21572039dd8398ff8272b031fa5422a40165145ab37f2f8794e1e7f844fe8118.scope/container",
        Some((
            "21572039dd8398ff8272b031fa5422a40165145ab37f2f8794e1e7f844fe8118",
            Some("cri-o"),
            Some("ea19ff5d-943a-4466-a07e-a71e9e50cc62"),
        )),
    );
    check(
        "the monitor of a container: a published test in Go",
        "0::/system.slice/crio-conmon-5819a498721cf8bb7e334809c9e48aa310bfc98801eb8017034ad17fb0749920.scope",
        None,
    );
}

#[test]
fn podman() {
    check(
        "cgroupfs driver, v1: published notes on a debugger's pin (Korean)",
        "13:pids:/libpod_parent/libpod-e2e2f42575a3bfccea6451c9cde80f03574326f98ef0a7b8d64a7e949eea285d",
        Some(("e2e2f42575a3bfccea6451c9cde80f03574326f98ef0a7b8d64a7e949eea285d", Some("podman"), None)),
    );
    check(
        "rootless, in a pod of Podman's own: a published report of a break-in (Chinese)",
        "0::/user.slice/user-1001.slice/user@1001.service/user.slice/user-libpod_pod_a0d591b6895832291281a31da0eee965617163f98b7546ac475727035735c03d.slice/libpod-c3b3ccc85706d4153543b9112f21bcbbb995ee598549ba0c5577ee1412a6abe0.scope/container",
        Some(("c3b3ccc85706d4153543b9112f21bcbbb995ee598549ba0c5577ee1412a6abe0", Some("podman"), None)),
    );
    check(
        "a unit's cgroup is split (Quadlet), rootless: a published script's recorded case",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/woow-tailscale.service/libpod-payload-cb0aa3b48c3c968a5a721afae5b17c8edcaa454691628902ca4f429dd861625a",
        Some(("cb0aa3b48c3c968a5a721afae5b17c8edcaa454691628902ca4f429dd861625a", Some("podman"), None)),
    );
    check(
        "`podman unshare` is in no container: containers/crun#376",
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/podman-6696.scope",
        None,
    );
    check(
        "`--cgroups=disabled`: containers/podman#20910",
        "0::/user.slice/user-10000.slice/user@10000.service/user.slice/podman-239302.scope",
        None,
    );
}

#[test]
fn k3s_kind_and_other_distributions() {
    check(
        "k3s by Colima, systemd driver, v2: cryptnono/cryptnono#47",
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7fda01c4_0ece_403d_88b4_c371d66d132a.slice/cri-containerd-e58a24d4a722c99712cff74ef69d93311089584eb32617b3890e0dcb996133f1.scope",
        Some((
            "e58a24d4a722c99712cff74ef69d93311089584eb32617b3890e0dcb996133f1",
            Some("containerd"),
            Some("7fda01c4-0ece-403d-88b4-c371d66d132a"),
        )),
    );
    check(
        "k3s's own name for a cgroup: a published test in Rust",
        "0::/kubepods-burstable-pod57e67067_89e4_4001_bdd4_8632d39ea02b.slice:cri-containerd:6d393320601b821561e43bd46f658284cb172cf297ecc3d3665be657870d32e2",
        Some((
            "6d393320601b821561e43bd46f658284cb172cf297ecc3d3665be657870d32e2",
            Some("containerd"),
            Some("57e67067-89e4-4001-bdd4-8632d39ea02b"),
        )),
    );
    check(
        "kind, seen from within its node, cgroupfs driver, v2: spiffe/spire#2578",
        "0::/kubelet/kubepods/besteffort/poddfd874dc-ab52-4793-af47-d06b78b68337/a3804295d867b752119eab99a9e6364fdf7fe6a4be5af0b11f9915fa7b64ff95",
        Some((
            "a3804295d867b752119eab99a9e6364fdf7fe6a4be5af0b11f9915fa7b64ff95",
            None,
            Some("dfd874dc-ab52-4793-af47-d06b78b68337"),
        )),
    );
    check(
        "kind, systemd driver, v2: a published test in Go",
        "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podb1e89a2fcc688644de3eb95aee8025ce.slice/cri-containerd-ee3fc60554cd9eefdd745a10dda84e041a7883c0381d067e76185d342de64759.scope",
        Some((
            "ee3fc60554cd9eefdd745a10dda84e041a7883c0381d067e76185d342de64759",
            Some("containerd"),
            Some("b1e89a2fcc688644de3eb95aee8025ce"),
        )),
    );
    check(
        "a shell of a cloud, itself a pod's container, v1: published notes",
        "12:memory:/kubepods/besteffort/pod7fccb20b4bbb99e737878eab4bb685c1/cbc5a5ce0e59be70efd95106d567442196c5a55e2e9656eb63dc412f93903f3f\n\
         10:rdma:/",
        Some((
            "cbc5a5ce0e59be70efd95106d567442196c5a55e2e9656eb63dc412f93903f3f",
            None,
            Some("7fccb20b4bbb99e737878eab4bb685c1"),
        )),
    );
    for text in ["0::/init", "0::/system/apid", "0::/system/etcd", "0::/podruntime/kubelet", "0::/kubelet"] {
        check("Talos's own services: siderolabs/talos#3950; coroot's cgroup_test.go", text, None);
    }
}

#[test]
fn amazon_s() {
    check(
        "ECS, cgroupfs driver: ContainerInfoTest, as above",
        "9:perf_event:/ecs/haissam-ecs-classic/5a0d5ceddf6c44c1928d367a815d890f/38fac3e99302b3622be089dd41e7ccf38aff368a86cc339972075136ee2710ce",
        Some(("38fac3e99302b3622be089dd41e7ccf38aff368a86cc339972075136ee2710ce", None, None)),
    );
    check(
        "Fargate before 1.4: ContainerInfoTest, as above",
        "11:hugetlb:/ecs/55091c13-b8cf-4801-b527-f4601742204d/432624d2150b349fe35ba397284dea788c2bf66b885d14dfc1569b01890ca7da",
        Some(("432624d2150b349fe35ba397284dea788c2bf66b885d14dfc1569b01890ca7da", None, None)),
    );
}

#[test]
fn systemd_units_and_sessions_are_no_containers() {
    for text in [
        "2:cpu,cpuacct:/system.slice/docker.service\n0::/system.slice/docker.service",
        "0::/system.slice/springboot.service",
        "0::/system.slice/system-postgresql.slice/postgresql@9.4-main.service",
        "0::/runtime.slice/kubelet.service",
        "0::/system.slice/system-serial\\x2dgetty.slice",
        "0::/user.slice/user-10000.slice/user@10000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-f22f14d2-3d44-4304-9879-3fdd0df7b08e.scope",
    ] {
        check("coroot's cgroup_test.go and fixtures; containers/podman#20910", text, None);
    }
}
