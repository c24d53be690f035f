// Package compare says whether a shadow answered as production did.
//
// A Comparer is given pairs of answers and counts: how many were the same,
// where the others differ, and how long both took. What it keeps is a Report,
// whose size is bounded whatever the traffic is, and which adds up: the reports
// of many agents, merged in any order, are the report of one agent that had
// seen everything. So no table here forgets by age. Where one is full, the
// entries of lowest rank stay, and an entry's rank depends on nothing but its
// key; see keep.
//
// Differences that production has with itself are noise. They are not guessed
// from single values: see Noise.
package compare
