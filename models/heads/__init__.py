"""Deformable head models: the record, ICT-FaceKit, landmark fitting, lids, optical flow and pose refinement."""
