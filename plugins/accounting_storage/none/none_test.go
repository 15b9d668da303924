package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

func TestNone(t *testing.T) {
	acked, err := none{}.Append(t.Context(), "c", []*acctstorev1.Record{{Number: 7}, {Number: 9}})
	if acked != 9 || err != nil {
		t.Errorf("Append = %d, %v; want 9, nil", acked, err)
	}
	err = none{}.Jobs(t.Context(), &acctstorev1.Query{}, func(*acctstorev1.JobRow) error {
		t.Error("none found a job")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
