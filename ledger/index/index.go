// Package index searches what this node may read of the ledger.
//
// It lives in memory, is fed after commit with rows in the ledger's order, and
// is rebuilt from the ledger at will: nothing rests on it. Rows of accesses to
// which this node is a party are opened with their details when their body is
// at hand. A subject's identifier is never kept; a keyed tag of it is.
package index

import (
	"slices"
	"strconv"
	"sync"

	"xinqiao/exchange"
)

// A Tag stands for a subject in this index only.
type Tag [16]byte

// Detail is what an opened body adds to a row.
type Detail struct {
	Subject  string // the subject's identifier; kept as a tag only
	Item     exchange.Item
	Views    []exchange.View
	Purpose  exchange.Purpose
	Case     exchange.Case
	Operator exchange.Operator
	Reasons  []exchange.Reason
}

// Limits.
const (
	defaultPage = 50
	maxPage     = 200
	// maxScan bounds the rows that one page looks at, a few milliseconds' work;
	// a page that reaches it is short and names where to go on.
	maxScan = 200_000
	// maxWaiting bounds the details that wait for their row.
	maxWaiting = 4096
)

// Index is a searchable copy of the ledger's rows. It is safe for concurrent use.
type Index struct {
	tag func(subject string) Tag

	// mu protects what follows.
	mu       sync.RWMutex
	rows     []exchange.LedgerRow // ascending by Index and by Time; Cosigned and the second half unset
	details  map[int]*opened      // by position in rows
	byEntry  map[entryKey]int
	byDept   map[exchange.Dept][]int // positions, ascending
	bySub    map[Tag][]int           // positions, ascending
	cosigned uint64                  // size of the newest cosigned tree
	waiting  map[entryKey]Detail     // details that came before their row
	queue    []entryKey              // of waiting, oldest first
	max      int                     // maxScan, less in tests
}

// opened is a detail as it is kept.
type opened struct {
	Detail // Subject is empty
	tag    Tag
	tagged bool
}

// entryKey names an entry: ids are unique only per author.
type entryKey struct {
	author exchange.Dept
	id     string
}

// New returns an empty index that keeps subjects as tag makes of them. The tag
// function must be keyed: identifiers are short enough to be guessed.
func New(tag func(subject string) Tag) *Index {
	return &Index{tag: tag, details: map[int]*opened{}, byEntry: map[entryKey]int{}, byDept: map[exchange.Dept][]int{},
		bySub: map[Tag][]int{}, waiting: map[entryKey]Detail{}, max: maxScan}
}

// Add takes a committed row. Rows come in the order of their index; one that is
// not above the newest is already here and changes nothing. Only the first half
// of the row is used, and Cosigned is not.
func (x *Index) Add(r exchange.LedgerRow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := len(x.rows)
	if at > 0 && r.Index <= x.rows[at-1].Index {
		return
	}
	x.rows = append(x.rows, exchange.LedgerRow{Index: r.Index, Entry: r.Entry, Kind: r.Kind, Result: r.Result, Time: r.Time,
		Author: r.Author, Holder: r.Holder, Requester: r.Requester, Class: r.Class, Outcome: r.Outcome, Leaf: r.Leaf})
	parties := []exchange.Dept{r.Author, r.Holder, r.Requester}
	for i, d := range parties {
		if d != "" && !slices.Contains(parties[:i], d) {
			x.byDept[d] = append(x.byDept[d], at)
		}
	}
	key := entryKey{r.Author, r.Entry}
	x.byEntry[key] = at
	if d, ok := x.waiting[key]; ok {
		delete(x.waiting, key)
		x.queue = slices.DeleteFunc(x.queue, func(k entryKey) bool { return k == key })
		x.open(at, d)
	}
}

// Open adds what the body of author's entry tells. It may come before the row;
// then it waits, and the oldest of more than 4096 that wait are forgotten.
func (x *Index) Open(author exchange.Dept, entry string, d Detail) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := entryKey{author, entry}
	if at, ok := x.byEntry[key]; ok {
		x.open(at, d)
		return
	}
	if _, again := x.waiting[key]; !again {
		x.queue = append(x.queue, key)
	}
	x.waiting[key] = d
	if len(x.queue) > maxWaiting {
		delete(x.waiting, x.queue[0])
		x.queue = slices.Delete(x.queue, 0, 1)
	}
}

// open files d under the row at position at. The caller holds mu.
func (x *Index) open(at int, d Detail) {
	if old := x.details[at]; old != nil && old.tagged {
		x.bySub[old.tag] = slices.DeleteFunc(x.bySub[old.tag], func(p int) bool { return p == at })
	}
	o := &opened{Detail: d}
	o.Views, o.Reasons = slices.Clone(d.Views), slices.Clone(d.Reasons)
	if d.Subject != "" {
		o.tag, o.tagged, o.Subject = x.tag(d.Subject), true, ""
		list := x.bySub[o.tag]
		i, _ := slices.BinarySearch(list, at)
		x.bySub[o.tag] = slices.Insert(list, i, at)
	}
	x.details[at] = o
}

// Forget closes a row again, after its body was erased.
func (x *Index) Forget(author exchange.Dept, entry string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.byEntry[entryKey{author, entry}]
	if !ok {
		return
	}
	if o := x.details[at]; o != nil && o.tagged {
		x.bySub[o.tag] = slices.DeleteFunc(x.bySub[o.tag], func(p int) bool { return p == at })
	}
	delete(x.details, at)
}

// SetCosigned tells the size of the newest tree that a quorum has cosigned.
func (x *Index) SetCosigned(size uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cosigned = max(x.cosigned, size)
}

// Size returns the number of rows.
func (x *Index) Size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.rows)
}

// Row returns the row at a ledger index.
func (x *Index) Row(index uint64) (exchange.LedgerRow, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, ok := slices.BinarySearchFunc(x.rows, index, func(r exchange.LedgerRow, i uint64) int {
		switch {
		case r.Index < i:
			return -1
		case r.Index > i:
			return 1
		}
		return 0
	})
	if !ok {
		return exchange.LedgerRow{}, false
	}
	return x.row(at), true
}

// Lookup returns the row of author's entry.
func (x *Index) Lookup(author exchange.Dept, entry string) (exchange.LedgerRow, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, ok := x.byEntry[entryKey{author, entry}]
	if !ok {
		return exchange.LedgerRow{}, false
	}
	return x.row(at), true
}

// row builds a row as a person sees it; it shares nothing with the index. The
// caller holds mu.
func (x *Index) row(at int) exchange.LedgerRow {
	r := x.rows[at]
	r.Cosigned = r.Index < x.cosigned
	if d := x.details[at]; d != nil {
		r.Open, r.Item, r.Purpose, r.Case, r.Operator = true, d.Item, d.Purpose, d.Case, d.Operator
		r.Views, r.Reasons = slices.Clone(d.Views), slices.Clone(d.Reasons)
	}
	return r
}

// Search returns the rows that match, newest first, and the cursor of the page
// after, "" when there is none. From is inclusive, To exclusive. A page may be
// short, even empty, while next is set: it then looked at as many rows as one
// page may. A malformed cursor or limit is an *exchange.Error of kind Invalid.
func (x *Index) Search(q exchange.LedgerQuery) (rows []exchange.LedgerRow, next string, err error) {
	limit := q.Page.Limit
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 1 || limit > maxPage {
		return nil, "", invalid("/limit", "the limit is not from 1 to 200")
	}
	upTo := ^uint64(0)
	if q.Page.Cursor != "" {
		if upTo, err = strconv.ParseUint(q.Page.Cursor, 10, 64); err != nil {
			return nil, "", invalid("/cursor", "the cursor is not one that a page has named")
		}
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	c := x.candidates(q)
	first := c.search(func(r *exchange.LedgerRow) bool { return !r.Time.Before(q.From) })
	end := c.search(func(r *exchange.LedgerRow) bool {
		return r.Index > upTo || !q.To.IsZero() && !r.Time.Before(q.To)
	})
	for i, seen := end-1, 0; i >= first; i, seen = i-1, seen+1 {
		at := c.position(i)
		if len(rows) == limit || seen == x.max {
			return rows, strconv.FormatUint(x.rows[at].Index, 10), nil
		}
		if x.matches(at, q) {
			rows = append(rows, x.row(at))
		}
	}
	return rows, "", nil
}

// candidates is an ascending list of positions that holds every match: a
// subject's, a department's, or all.
type candidates struct {
	x    *Index
	list []int
	all  bool
}

func (x *Index) candidates(q exchange.LedgerQuery) candidates {
	switch {
	case q.Subject != "":
		return candidates{x: x, list: x.bySub[x.tag(q.Subject)]}
	case q.Dept != "":
		return candidates{x: x, list: x.byDept[q.Dept]}
	}
	return candidates{x: x, all: true}
}

func (c candidates) position(i int) int {
	if c.all {
		return i
	}
	return c.list[i]
}

// search returns the first candidate for which over holds; over must hold for
// all after it, which it does for bounds of index and time.
func (c candidates) search(over func(*exchange.LedgerRow) bool) int {
	lo, hi := 0, len(c.list)
	if c.all {
		hi = len(c.x.rows)
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if over(&c.x.rows[c.position(mid)]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

func (x *Index) matches(at int, q exchange.LedgerQuery) bool {
	r := &x.rows[at]
	switch {
	case q.Dept != "" && r.Author != q.Dept && r.Holder != q.Dept && r.Requester != q.Dept,
		q.Outcome != exchange.Undecided && r.Outcome != q.Outcome,
		q.Kind != "" && r.Kind != q.Kind:
		return false
	}
	if q.Item == "" && q.Operator == "" {
		return true
	}
	d := x.details[at]
	return d != nil && (q.Item == "" || d.Item == q.Item) && (q.Operator == "" || d.Operator == q.Operator)
}

func invalid(pointer, msg string) error {
	return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "index.Search", Msg: msg, Pointer: pointer,
		Hint: "leave it out to begin with the newest entries"}
}
