package web

import (
	"context"

	"faultline/graph/doctor"
)

// examined is what is known of the shop's instrumentation: the payment service loses the context of a third of its calls.
func examined(context.Context) (doctor.Report, error) {
	pay := doctor.Evidence{Service: payment, Language: "java", SDK: "1.58.0", Last: testNow, Counts: doctor.Counts{
		doctor.Spans: 900, doctor.Requests: 30, doctor.Server: 400, doctor.ServerRoots: 100, doctor.Unanswered: 150, doctor.Late + 3: 900,
	}}
	pay.Note(doctor.Link{Counter: doctor.Unanswered, Peer: checkout}, doctor.Seen{N: 150})
	return doctor.Examine([]doctor.Slot{{Start: testNow.Add(-doctor.SlotLength), Services: []doctor.Evidence{
		{Service: front, Language: "go", Last: testNow, Counts: doctor.Counts{doctor.Spans: 600, doctor.Requests: 20, doctor.Server: 600, doctor.ServerRoots: 600}},
		{Service: checkout, Last: testNow, Counts: doctor.Counts{doctor.Spans: 1500, doctor.Requests: 100, doctor.Server: 500, doctor.UnseenParents: 10}},
		{Service: staged, Language: "python", SDK: "1.40.0", Last: testNow, Counts: doctor.Counts{doctor.Spans: 7, doctor.Requests: 7}},
		pay,
	}}}, testNow), nil
}
