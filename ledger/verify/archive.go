package verify

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"regexp"
	"slices"
)

// Limits of an evidence file. A reader allocates no more than they say.
const (
	maxArchive = 256 << 20
	maxFiles   = 20_000
)

// fileName holds names to plain paths that mean the same on every system.
var fileName = regexp.MustCompile(`^([a-z]+/)?[a-z0-9][a-z0-9-]*\.[a-z]+$`)

// The zip structures of APPNOTE 4.3 in the one form used here: stored, no
// flags, no extra fields, no comments, dated 1980-01-01.
const (
	zipLocal, zipCentral, zipEnd = 0x04034b50, 0x02014b50, 0x06054b50

	zipVersion = 20
	zipDate    = 1<<5 | 1
)

// WriteZip returns the canonical archive of files: sorted by name, stored. The
// same files give the same bytes with every version of this program, which is
// why it does not use archive/zip.
func WriteZip(files map[string][]byte) []byte {
	var out, central []byte
	le := binary.LittleEndian
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data, offset := files[name], len(out)
		common := le.AppendUint16(nil, zipVersion)
		common = le.AppendUint16(common, 0) // flags
		common = le.AppendUint16(common, 0) // stored
		common = le.AppendUint16(common, 0) // time
		common = le.AppendUint16(common, zipDate)
		common = le.AppendUint32(common, crc32.ChecksumIEEE(data))
		common = le.AppendUint32(common, uint32(len(data)))
		common = le.AppendUint32(common, uint32(len(data)))
		common = le.AppendUint16(common, uint16(len(name)))
		common = le.AppendUint16(common, 0) // extra field

		out = append(le.AppendUint32(out, zipLocal), common...)
		out = append(append(out, name...), data...)

		central = le.AppendUint32(central, zipCentral)
		central = le.AppendUint16(central, zipVersion)
		central = append(central, common...)
		central = append(central, make([]byte, 2+2+2+4)...) // comment, disk, attributes
		central = le.AppendUint32(central, uint32(offset))
		central = append(central, name...)
	}
	end := le.AppendUint32(nil, zipEnd)
	end = append(end, 0, 0, 0, 0) // disks
	end = le.AppendUint16(end, uint16(len(files)))
	end = le.AppendUint16(end, uint16(len(files)))
	end = le.AppendUint32(end, uint32(len(central)))
	end = le.AppendUint32(end, uint32(len(out)))
	end = le.AppendUint16(end, 0) // comment
	return append(append(out, central...), end...)
}

// readZip returns the files of a canonical archive. Anything that is a zip and
// not canonical is ReasonContainer; anything without a zip's first or last
// signature is ErrNotZip.
func readZip(b []byte) (map[string][]byte, error) {
	if !looksLikeZip(b) {
		return nil, ErrNotZip
	}
	if len(b) > maxArchive {
		return nil, fail(ReasonContainer, "", "%d bytes are over the limit of %d", len(b), maxArchive)
	}
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fail(ReasonContainer, "", "%w", err)
	}
	if len(r.File) > maxFiles {
		return nil, fail(ReasonContainer, "", "%d files are over the limit of %d", len(r.File), maxFiles)
	}
	files := make(map[string][]byte, len(r.File))
	for _, f := range r.File {
		if !fileName.MatchString(f.Name) || f.Method != zip.Store || f.UncompressedSize64 > uint64(len(b)) {
			return nil, fail(ReasonContainer, "", "a file is compressed or has a name of another form")
		}
		data, err := readFile(f)
		if err != nil {
			return nil, fail(ReasonContainer, f.Name, "%w", err)
		}
		files[f.Name] = data
	}
	if !bytes.Equal(WriteZip(files), b) {
		return nil, fail(ReasonContainer, "", "the archive is not the canonical encoding of its files: it was repacked or changed")
	}
	return files, nil
}

func readFile(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.UncompressedSize64)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	// The checksum is compared when the end is reached.
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		return nil, err
	}
	return data, r.Close()
}

// looksLikeZip reports whether b begins with a zip's first signature or ends
// with its last record: one flipped byte does not make a zip something else.
func looksLikeZip(b []byte) bool {
	const endSize = 22
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == zipLocal {
		return true
	}
	return len(b) >= endSize && binary.LittleEndian.Uint32(b[len(b)-endSize:]) == zipEnd
}
