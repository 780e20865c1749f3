// Whether files are being dragged over the page: fields that take some show it then.

// A drag that leaves the window, or ends elsewhere, says so in no way that can be relied on; one that goes on says so all the time.
const QUIET_MS = 300;

export const dragging = $state({ files: false });
let timer: ReturnType<typeof setTimeout> | undefined;

const carriesFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;

addEventListener(
  "dragover",
  (event) => {
    if (!carriesFiles(event)) return;
    dragging.files = true;
    clearTimeout(timer);
    timer = setTimeout(() => (dragging.files = false), QUIET_MS);
  },
  true,
);
addEventListener("drop", () => (dragging.files = false), true);
