# Two commands for newcomers: `make demo` and `make test`. Go is the only
# prerequisite of either.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
TIMEOUT     = 30m

.PHONY: help build demo test fmt check clean

help:
	@echo 'make demo       six departments, one exchange, on this computer; Ctrl-C ends it'
	@echo 'make test       everything that has to hold'
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

clean:
	@rm -rf bin .demo
