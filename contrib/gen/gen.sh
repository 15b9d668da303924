#!/bin/sh
# Regenerates every generated file: protobuf code beside its .proto, and the
# converters of sdk/wire. Run from the top of the tree (make gen).
set -eu
command -v protoc >/dev/null || { echo "gen: protoc is missing: apt-get install protobuf-compiler" >&2; exit 1; }
bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH=$bin:$PATH protoc -I . --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative $(find sdk/proto -name '*.proto' | sort)
[ ! -d contrib/gen/wire ] || go run ./contrib/gen/wire -o sdk/wire/wire_gen.go
