package demo

import (
	"embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
)

// The lists that the population is drawn from. Surnames carry a weight, about
// their share in thousands; districts and employers are invented.
//
//go:embed data/*.csv
var lists embed.FS

// names is what data/*.csv holds.
type names struct {
	surnames  []string // each as often as its weight
	given     map[sex][]string
	long      map[sex][]string
	districts []district
	employers []organisation
	hospitals []organisation
}

type sex string

const (
	male   sex = "男"
	female sex = "女"
)

type district struct {
	code     string // administrative division code, of no real division
	name     string
	registry string // of marriages
	streets  []string
}

type organisation struct{ name, uscc string }

func readNames() (names, error) {
	n := names{given: map[sex][]string{}, long: map[sex][]string{}}
	bySex := func(to map[sex][]string) func(row []string) error {
		return func(row []string) error {
			s, ok := map[string]sex{"m": male, "f": female}[row[1]]
			if !ok {
				return fmt.Errorf("unknown sex %q", row[1])
			}
			to[s] = append(to[s], row[0])
			return nil
		}
	}
	organisations := func(to *[]organisation) func(row []string) error {
		return func(row []string) error {
			*to = append(*to, organisation{row[0], syntheticUSCC(row[1])})
			return nil
		}
	}
	for _, f := range []struct {
		name    string
		columns int
		read    func(row []string) error
	}{
		{"surnames", 2, func(row []string) error {
			weight, err := strconv.Atoi(row[1])
			for range weight {
				n.surnames = append(n.surnames, row[0])
			}
			return err
		}},
		{"given", 2, bySex(n.given)},
		{"long_names", 2, bySex(n.long)},
		{"districts", 4, func(row []string) error {
			n.districts = append(n.districts, district{row[0], row[1], row[2], strings.Fields(row[3])})
			return nil
		}},
		{"employers", 2, organisations(&n.employers)},
		{"hospitals", 2, organisations(&n.hospitals)},
	} {
		if err := readList(f.name, f.columns, f.read); err != nil {
			return names{}, fmt.Errorf("demo data: %s.csv: %w", f.name, err)
		}
	}
	return n, nil
}

// readList calls read with each row below the heading.
func readList(name string, columns int, read func(row []string) error) error {
	f, err := lists.Open("data/" + name + ".csv")
	if err != nil {
		return err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = columns
	rows, err := r.ReadAll()
	if err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("the list is empty")
	}
	for _, row := range rows[1:] {
		if err := read(row); err != nil {
			return err
		}
	}
	return nil
}
