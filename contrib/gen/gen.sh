#!/bin/sh
# Regenerates every generated file: protobuf code beside its .proto, the Python
# library's messages, the converters of sdk/wire, and the reference of plugins. Run from the top of the tree (make gen).
#
# First it compares the .proto files with wire.binpb, the wire as it was last
# released, and refuses what an older peer would misread: fields and messages
# are only ever added. What was added since the release may still change.
#   gen.sh -release    makes today's wire the one to compare with
set -eu
command -v protoc >/dev/null || { echo "gen: protoc is missing: apt-get install protobuf-compiler" >&2; exit 1; }
buf() { go tool -modfile=contrib/gen/buf.mod buf "$@"; }
buf breaking . --config contrib/gen/buf.yaml --against contrib/gen/wire.binpb || {
	echo "gen: this breaks the wire: older plugins, nodes and commands would misread it. Add a field or message instead." >&2
	exit 1
}
bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH=$bin:$PATH protoc -I . --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative $(find sdk/proto -name '*.proto' | sort)
# The Python library speaks the kinds that it serves, with flat module names.
py=sdk/python/sluice/wire; rm -f $py/*_pb2.py
mkdir "$bin/py"
protoc -I . --python_out="$bin/py" sdk/proto/plugin/v1/*.proto sdk/proto/mirror/v1/*.proto sdk/proto/sched/v1/*.proto \
	sdk/proto/priority/v1/*.proto sdk/proto/jobsubmit/v1/*.proto sdk/proto/wlm/v1/*.proto
for f in $(find "$bin/py" -name '*_pb2.py'); do
	sed 's/^from sdk\.proto\.[a-z]*\.v1 import/from sluice.wire import/' "$f" > $py/"$(basename "$f")"
done
[ ! -d contrib/gen/wire ] || go run ./contrib/gen/wire -o sdk/wire/wire_gen.go
protoc -I . --include_imports --include_source_info --descriptor_set_out="$bin/all.binpb" $(find sdk/proto -name '*.proto' | sort)
go run ./contrib/gen/reference contrib/docs/reference/plugins < "$bin/all.binpb"
[ "${1:-}" != -release ] || buf build . --config contrib/gen/buf.yaml --exclude-source-info -o contrib/gen/wire.binpb
