// Days in a filter are the reader's own: the address holds the zone that they are read in.
const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
for (const field of document.querySelectorAll("[data-zone]")) field.value ||= timeZone ?? "";
