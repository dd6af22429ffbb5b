// What a sampling node of the pack shows of its frames: a sheet of all of them while they form, and when they are done a
// video of them in the video's own size. The stock preview would write the sheet's size below it, and cannot play.
// Where this script is not loaded the stock preview shows the sheet.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'

const OUTPUT = 'fusionframes_keyframes' // of nodes/host/comfy/keyframe_video.py
const WIDGET = 'fusionframes_preview'
const HEIGHT = 216 // pixels
const CAPTION = 24 // of them

const ours = (id) => {
  const node = app.graph.getNodeById(Number(id)) // no node for "5:12", which is inside a subgraph
  return node?.type?.startsWith('FusionFrames_') ? node : null
}

function makeWidget(node) {
  const frame = document.createElement('div')
  Object.assign(frame.style, { display: 'flex', flexDirection: 'column', gap: '4px', minHeight: '0', pointerEvents: 'none' })
  const picture = document.createElement('img')
  Object.assign(picture.style, { flex: '1 1 0', minHeight: `${HEIGHT - CAPTION}px`, width: '100%', objectFit: 'contain', imageRendering: 'pixelated' })
  const caption = document.createElement('div')
  Object.assign(caption.style, { textAlign: 'center', fontSize: '11px', color: 'var(--input-text, #ddd)' })
  frame.append(picture, caption)
  const widget = node.addDOMWidget(WIDGET, 'img', frame, { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT })
  widget.serialize = false
  Object.assign(widget, { picture, caption })
  const [width, height] = node.computeSize()
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  return widget
}

function show(node, source, words) {
  const widget = node.widgets?.find((found) => found.name === WIDGET) ?? makeWidget(node)
  const before = widget.picture.src
  widget.picture.onload = () => before.startsWith('blob:') && URL.revokeObjectURL(before)
  widget.picture.src = source
  widget.caption.innerText = words
  node.setDirtyCanvas?.(true, true)
}

// Whether a preview is of a node of ours, which then shows it.
function isShown({ displayNodeId, nodeId, blob }) {
  const node = ours(displayNodeId ?? nodeId)
  if (node !== null) show(node, URL.createObjectURL(blob), '')
  return node !== null
}

function onExecuted({ detail }) {
  const node = ours(detail.display_node ?? detail.node)
  const [video] = detail.output?.[OUTPUT] ?? []
  if (node === null || !video) return
  const { filename, subfolder, type, caption } = video
  show(node, api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`), caption)
}

app.registerExtension({
  name: 'FusionFrames.Previews',
  setup() {
    const dispatch = api.dispatchCustomEvent // before the frontend's own listener, which would draw the stock preview too
    api.dispatchCustomEvent = function (type, detail) {
      return (type === 'b_preview_with_metadata' && isShown(detail)) || dispatch.call(this, type, detail)
    }
    api.addEventListener('executed', onExecuted)
  }
})
