// SPDX-License-Identifier: Apache-2.0

package p9

// Dirent is one entry in the data of an Rreaddir. Offset is the server's
// cookie for what follows the entry.
type Dirent struct {
	QID    QID
	Offset uint64
	Type   uint8
	Name   string
}

// Size returns how many bytes e takes in an Rreaddir.
func (e *Dirent) Size() int { return 13 + 8 + 1 + 2 + len(e.Name) }

// AppendDirent appends e as Rreaddir's data holds it.
func AppendDirent(b []byte, e *Dirent) []byte {
	b = put64(putQID(b, e.QID), e.Offset)
	return putStr(append(b, e.Type), e.Name)
}

// ParseDirents takes the data of an Rreaddir apart.
func ParseDirents(data []byte) ([]Dirent, error) {
	var list []Dirent
	d := decoder{b: data}
	for len(d.b) > 0 {
		e := Dirent{QID: d.qid(), Offset: d.u64(), Type: d.u8(), Name: d.str()}
		if d.bad {
			return nil, ErrMalformed
		}
		list = append(list, e)
	}
	return list, nil
}
