// Package spelling knows which of some words somebody meant who misspelt one.
package spelling

// nearly is how many letters a misspelt name may be away from the one that was meant; two that changed places are two.
const nearly = 2

// Nearest returns the known name that is spelt nearly as this one is, or "".
func Nearest(name string, known []string) (found string) {
	least := nearly + 1
	for _, k := range known {
		if d := distance(name, k); d < least {
			found, least = k, d
		}
	}
	return found
}

// distance is how many letters have to be put in, taken out or replaced to make one text the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from the part of a so far to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
