"""The service and bulk classification on a Ray cluster. Nothing else imports Ray (the group `ray`)."""
