#!/usr/bin/env bash
# k8s-parts.sh OUT [KUBERNETES_VERSION [ETCD_VERSION [KWOK_VERSION]]] - build the real Kubernetes control plane's
# programs (kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, etcd) and kwok, which plays the nodes,
# from their Go modules with the ordinary go client, into OUT. Nothing is vendored: throw-away modules require them
# by version. OUT/versions.txt says what was built; a matching OUT is left as it is.
# Measured on 2 cores with a warm module proxy: 5.5 min (kube-apiserver 3.7) + kwok 3 min; 2 GB of caches, 450 MB out.
# versions.txt is written last, so that an interrupted build is taken up again (from Go's own build cache).
set -euo pipefail
out=${1:?usage: k8s-parts.sh OUT [VERSION [ETCD_VERSION [KWOK_VERSION]]]}
ver=${2:-v1.36.3} etcd=${3:-v3.6.8} kwok=${4:-v0.8.0}
want="kubernetes $ver etcd $etcd kwok $kwok"
[ "$(cat "$out/versions.txt" 2>/dev/null)" = "$want" ] && { echo "k8s-parts: $out has $want"; exit 0; }
mkdir -p "$out"; out=$(cd "$out" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# Kubernetes publishes its staging modules (k8s.io/api, k8s.io/client-go, ...) as v0.MINOR.PATCH beside itself.
mkdir "$work/kubernetes"; cd "$work/kubernetes"
mod=$(go mod download -json "k8s.io/kubernetes@$ver" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
staging=v0.${ver#v1.}
{ echo "module lab.invalid/kubernetes"; grep -E '^go ' "$mod"
  echo "require k8s.io/kubernetes $ver"
  sed -n 's#^\t*\(replace \)\{0,1\}\(k8s\.io/[a-z0-9-]*\) => \./staging.*#replace \2 => \2 '"$staging"'#p' "$mod"
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
GO
go mod tidy >/dev/null 2>"$work/tidy.log" || { tail -20 "$work/tidy.log" >&2; exit 1; }
for p in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  t0=$SECONDS
  echo "k8s-parts: building $p $ver"
  # as upstream's own build does: the version is stamped at link time
  v="-X k8s.io/component-base/version.gitVersion=$ver -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(echo "$ver" | cut -d. -f2)"
  CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w $v" -o "$out/$p" "k8s.io/kubernetes/cmd/$p"
  echo "k8s-parts: $p $ver in $((SECONDS - t0)) s"
done

mkdir "$work/etcd"; cd "$work/etcd"; t0=$SECONDS
printf 'module lab.invalid/etcd\n\ngo 1.24\n' >go.mod
cat >main.go <<'GO'
// The etcd server's documented entry point: its own main lives in a module that is not published as a library.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
go get "go.etcd.io/etcd/server/v3@$etcd" >/dev/null 2>"$work/etcd.log" && go mod tidy >/dev/null 2>>"$work/etcd.log" || { tail -20 "$work/etcd.log" >&2; exit 1; }
CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w" -o "$out/etcd" .
echo "k8s-parts: etcd $etcd in $((SECONDS - t0)) s"

mkdir "$work/kwok"; cd "$work/kwok"; t0=$SECONDS
printf 'module lab.invalid/kwok\n\ngo 1.24\n' >go.mod
printf '//go:build tools\n\npackage tools\n\nimport _ "sigs.k8s.io/kwok/cmd/kwok"\n' >tools.go
{ go get "sigs.k8s.io/kwok@$kwok" && go mod tidy; } >/dev/null 2>"$work/kwok.log" || { tail -20 "$work/kwok.log" >&2; exit 1; }
CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w" -o "$out/kwok" sigs.k8s.io/kwok/cmd/kwok
# kwok does nothing without stages; its module carries the usual ones
rm -rf "$out/kwok-stages"; mkdir "$out/kwok-stages"
stages=$(go list -mod=mod -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
for f in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
  cp "$stages/$f.yaml" "$out/kwok-stages/"; done
chmod -R u+w "$out/kwok-stages"
echo "k8s-parts: kwok $kwok in $((SECONDS - t0)) s"
echo "$want" >"$out/versions.txt"
