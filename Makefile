# Two commands for newcomers: `make demo` and `make test`. Go is the only
# prerequisite of either.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
TIMEOUT     = 30m
SECONDS     = 120
SEED        = $(shell date +%s)

.PHONY: help build demo test chaos fmt check clean

help:
	@echo 'make demo       six departments, one exchange, on this computer; Ctrl-C ends it'
	@echo 'make test       everything that has to hold'
	@echo 'make chaos      breaks a cluster of real processes (SECONDS=120 SEED=...)'
	@echo 'make build      bin/xinqiao and bin/xqverify'
	@echo 'make fmt        formats the Go files'

build:
	@mkdir -p bin
	@echo 'building bin/xinqiao and bin/xqverify (the first time this takes some minutes)' >&2
	@go build -trimpath -o bin/ ./cmd/xinqiao ./cmd/xqverify

demo: build
	@bin/xinqiao demo $(DEMOFLAGS)

fmt:
	@gofmt -w cmd crypto exchange ledger policy .ci

# What the compiler does not check.
check:
	@echo 'gofmt'
	@unformatted=$$(gofmt -l cmd crypto exchange ledger policy .ci); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt: $$unformatted" >&2; exit 1; fi
	@echo 'go mod verify'
	@go mod verify
	@echo 'go vet'
	@go vet ./... && go vet .ci/testsum.go
	@echo 'staticcheck'
	@go run $(STATICCHECK) ./...
	@echo 'govulncheck'
	@.ci/vulncheck

# The last line counts. In CI a skipped test is a failure.
test: check
	@go run .ci/testsum.go go test -json -race -timeout $(TIMEOUT) ./...

# First the three deliberate mistakes, which must be found, then the run itself; its
# last line counts. A failure names the seed and the directory that was kept.
chaos:
	@echo 'control: raft writes in a foreign term over its stock transport' >&2
	@go test -count=1 -run '^TestStockTransportWritesInAForeignTerm$$' ./ledger/replica
	@echo 'controls: no fsync; release on the word of the leader' >&2
	@go test -count=1 -v -run '^TestControl' ./ledger/chaos
	@go test -count=1 -v -run '^Test(Chaos|Network|FullDisk)' -timeout $$(($(SECONDS)+600))s ./ledger/chaos -chaos.seconds $(SECONDS) -chaos.seed $(SEED)

clean:
	@rm -rf bin .demo
