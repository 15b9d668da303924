package sluice

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// topPhrases counts the phrases of three words in each part of a book, adds
// them up and returns the n most frequent, a line each: count, tab, phrase. A
// word is a run of ASCII letters, in lower case. It is what count.sh and
// merge.sh compute.
func topPhrases(dir string, parts, n int) (string, error) {
	counts := map[string]int{}
	for i := 1; i <= parts; i++ {
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("part-%d.txt", i)))
		if err != nil {
			return "", err
		}
		letters := func(r rune) bool { return r < 'a' || r > 'z' }
		words := bytes.FieldsFunc(asciiLower(data), letters)
		for j := 2; j < len(words); j++ {
			counts[string(bytes.Join(words[j-2:j+1], []byte(" ")))]++
		}
	}
	phrases := make([]string, 0, len(counts))
	for p := range counts {
		phrases = append(phrases, p)
	}
	slices.SortFunc(phrases, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	var out strings.Builder
	for _, p := range phrases[:min(n, len(phrases))] {
		fmt.Fprintf(&out, "%d\t%s\n", counts[p], p)
	}
	return out.String(), nil
}

func asciiLower(data []byte) []byte {
	out := make([]byte, len(data))
	for i, b := range data {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		out[i] = b
	}
	return out
}
