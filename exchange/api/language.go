package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"xinqiao/exchange"
)

const (
	langZH = "zh-CN"
	langEN = "en"
)

// message is what a person is told about one code, in one language.
type message struct {
	Title string `json:"title"`
	Hint  string `json:"hint"`
}

//go:embed problems.json
var problemsJSON string

// texts reads the messages of all codes that are not denials; denials come from
// Config.Explain.
func texts() (map[exchange.Code]map[string]message, error) {
	m := map[exchange.Code]map[string]message{}
	if err := json.Unmarshal([]byte(problemsJSON), &m); err != nil {
		return nil, fmt.Errorf("read problems.json: %w", err)
	}
	return m, nil
}

// language returns the better of the two languages for the request's
// Accept-Language (RFC 9110, 12.5.4); Chinese wins a tie and is the default.
func language(r *http.Request) string {
	var zh, en float64
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Language"), ","), ",") {
		tag, params, _ := strings.Cut(part, ";")
		q := 1.0
		if name, value, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.TrimSpace(name) == "q" {
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		switch primary {
		case "zh", "*":
			zh = max(zh, q)
		case "en":
			en = max(en, q)
		}
	}
	if en > zh {
		return langEN
	}
	return langZH
}
