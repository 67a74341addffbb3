package api_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/policy"
)

// contract reads openapi.yaml once; loading it takes longer than a test.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile("openapi.yaml")
})

func TestContractIsValid(t *testing.T) {
	t.Parallel()
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var q api.Question
	example := doc.Paths.Find("/api/v1/exchanges").Post.RequestBody.Value.Content.Get("application/json").Example
	raw, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Decode(raw, &q); err != nil {
		t.Fatal(err)
	}
	if w := newRig(t).call(t, "POST", "/api/v1/exchanges", string(raw)); w.Code != http.StatusOK {
		t.Errorf("the example of the contract gives %d: %s", w.Code, w.Body)
	}
}

func TestContractHasEveryRoute(t *testing.T) {
	t.Parallel()
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	var spec []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			spec = append(spec, method+" "+path)
			if op.Responses.Default() == nil {
				t.Errorf("%s %s says nothing about problems", method, path)
			}
		}
	}
	slices.Sort(spec)
	if diff := cmp.Diff(api.RouteList(), spec); diff != "" {
		t.Errorf("routes and openapi.yaml differ (-routes +yaml):\n%s", diff)
	}
}

// validate holds a response against the contract, and a request that was
// accepted too: the contract must not be narrower than the code.
func validate(t testing.TB, req *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	path, params := match(doc, req.URL.Path)
	if path == "" {
		return // no such address: the problem is checked by its test
	}
	item := doc.Paths.Find(path)
	op := item.GetOperation(req.Method)
	if op == nil {
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params,
		Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: req.Method, Operation: op},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, ExcludeRequestBody: true}}
	if w.Code < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			t.Errorf("accepted against the contract: %v", err)
		}
	}
	res := w.Result()
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in,
		Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(strings.NewReader(w.Body.String())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true}})
	if err != nil {
		t.Errorf("%s %s: response %d breaks the contract: %v\n%s", req.Method, path, w.Code, err, w.Body)
	}
}

func match(doc *openapi3.T, path string) (pattern string, params map[string]string) {
	parts := strings.Split(path, "/")
	best := -1
	for p := range doc.Paths.Map() {
		want := strings.Split(p, "/")
		if len(want) != len(parts) {
			continue
		}
		found, exact, ok := map[string]string{}, 0, true
		for i := range want {
			switch {
			case strings.HasPrefix(want[i], "{"):
				found[strings.Trim(want[i], "{}")] = parts[i]
			case want[i] == parts[i]:
				exact++
			default:
				ok = false
			}
		}
		if ok && exact > best {
			pattern, params, best = p, found, exact
		}
	}
	return pattern, params
}

// codes reads every code that package exchange declares.
func codes(t *testing.T) []exchange.Code {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "../codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []exchange.Code
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(s, "XQ-") {
				out = append(out, exchange.Code(s))
			}
		}
		return true
	})
	if len(out) < 40 {
		t.Fatalf("found only %d codes", len(out))
	}
	return out
}

func TestEveryCodeHasWordsInBothLanguages(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("problems.json")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[exchange.Code]map[string]struct{ Title, Hint string }{}
	if err := json.Unmarshal(raw, &texts); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("ERRORS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(XQ-[A-Z-]+)` \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(string(table), -1) {
		rows[m[1]] = m[2:]
	}
	for _, code := range codes(t) {
		zh, en := texts[code]["zh-CN"].Title, texts[code]["en"].Title
		hintZH, hintEN := texts[code]["zh-CN"].Hint, texts[code]["en"].Hint
		if strings.HasPrefix(string(code), "XQ-DENY-") {
			zh, _, hintZH = policy.Explain(code, "zh-CN")
			en, _, hintEN = policy.Explain(code, "en")
		}
		if zh == "" || en == "" || hintZH == "" || hintEN == "" {
			t.Errorf("%s has no words in one of the languages", code)
		}
		if diff := cmp.Diff([]string{zh, en}, rows[string(code)]); diff != "" {
			t.Errorf("ERRORS.md and the texts of %s differ (-text +table):\n%s", code, diff)
		}
		delete(rows, string(code))
		delete(texts, code)
	}
	if len(rows) > 0 || len(texts) > 0 {
		t.Errorf("described, but no code of package exchange: %v %v", rows, texts)
	}
}
