// Opens workflows one after the other, runs them in few steps, and reports where every node is before and after.
//   node layouts.mjs URL CHROMIUM OUT_FOLDER canvas|vue FILE...
// OUT_FOLDER gets <workflow>_<renderer>_opened.png and _done.png.
import path from 'node:path'
import { drop, graphReport, visit } from './page.mjs'

const [url, executablePath, out, renderer, ...files] = process.argv.slice(2)
const QUICK = { steps: 2 }
const SMALL = { ...QUICK, width: 64, height: 64, num_frames: 3 } // of nodes that are set to more pixels than tiny's

// Where everything is on the page, in its pixels: evaluated in the page.
function places() {
  const { canvas, graph } = window.app
  const frame = canvas.canvas.getBoundingClientRect()
  const { scale, offset } = canvas.ds
  const title = window.LiteGraph.NODE_TITLE_HEIGHT
  const drawn = (node) => document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
  const onCanvas = (node) => ({
    x: frame.x + (node.pos[0] + offset[0]) * scale, y: frame.y + (node.pos[1] + offset[1] - title) * scale,
    width: node.size[0] * scale, height: (node.size[1] + title) * scale
  })
  const box = (node) => {
    const { x, y, width, height } = drawn(node) ?? onCanvas(node)
    return { id: node.id, type: node.type, x, y, width, height, size: [width / scale, height / scale - title] }
  }
  const edge = (selector, side, otherwise) => document.querySelector(selector)?.getBoundingClientRect()[side] ?? otherwise
  const free = {
    left: edge('.side-tool-bar-container', 'right', frame.left), top: edge('.workflow-tabs-container', 'bottom', frame.top),
    right: frame.right, bottom: frame.bottom
  }
  return { scale, free, boxes: graph.nodes.map(box) }
}

// What of a note's text can be read: evaluated in the page. Contrast as WCAG 2 counts it.
function notes() {
  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number)
  const light = ([red, green, blue]) => [red, green, blue].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0)
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor)
      if (colour.length >= 3 && colour[3] !== 0) return colour
    }
    return numbers(window.app.graph.nodes.find((node) => node.type === 'MarkdownNote').bgcolor
      .replace(/^#(.)(.)(.)$/, (_, ...digits) => digits.slice(0, 3).map((digit) => 17 * parseInt(digit, 16)).join(' '))) // drawn on the canvas
  }
  const contrast = (element) => {
    const [low, high] = [numbers(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
  }
  const { scale } = window.app.canvas.ds
  return [...document.querySelectorAll('.comfy-markdown-content, .comfy-markdown .tiptap')].map((note) => {
    const texts = [note, ...note.querySelectorAll('p, li, h2, strong, em, code, a')].filter((part) => part.innerText?.trim())
    const outer = note.closest('.comfy-markdown') ?? note
    return {
      contrast: Math.min(...texts.map(contrast)),
      letters: Math.min(...texts.map((part) => parseFloat(getComputedStyle(part).fontSize))) * scale,
      hidden: Math.max(0, ...[outer, note].map((part) => part.scrollHeight - part.clientHeight))
    }
  })
}

// What our nodes show of their frames, and whether the stock preview is there too: evaluated in the page.
function previews() {
  return window.app.graph.nodes.filter((node) => node.type.startsWith('FusionFrames_')).flatMap((node) => {
    const widget = node.widgets?.find((found) => found.name === 'fusionframes_preview')
    const stock = Boolean(node.imgs?.length || node.preview?.length)
    if (!widget && !stock) return []
    const { naturalWidth: width, naturalHeight: height } = widget?.picture ?? {}
    return [{ type: node.type, stock, width, height, caption: widget?.caption.innerText }]
  })
}

// Fewer steps, and small pictures of the official models: evaluated in the page.
function hurry([quick, small]) {
  for (const node of window.app.graph.nodes) {
    const widgets = node.widgets ?? []
    const most = widgets.some((widget) => widget.name === 'width' && widget.value > small.width) ? small : quick
    for (const widget of widgets) {
      if (widget.name in most && typeof widget.value === 'number') widget.value = Math.min(widget.value, most[widget.name])
    }
  }
}

// Whether the texts of all notes are drawn, which a busy machine takes its time for: evaluated in the page.
function noted() {
  const count = window.app.graph.nodes.filter((node) => node.type === 'MarkdownNote').length
  return document.querySelectorAll('.comfy-markdown-content, .comfy-markdown .tiptap').length >= count
}

function listen() {
  window.ends = []
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted']) {
    window.app.api.addEventListener(name, (event) => window.ends.push({ name, why: event.detail.exception_message }))
  }
}

await visit(url, executablePath, async (page, report) => {
  await page.evaluate(listen)
  report.workflows = {}
  for (const file of files) {
    const name = path.basename(file, '.json')
    const picture = (when) => page.screenshot({ path: path.join(out, `${name}_${renderer}_${when}.png`) })
    await fetch(new URL('/free', url), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"free_memory": true}' })
    await drop(page, file)
    await page.waitForFunction(noted, null, { timeout: 60000 }).catch(() => {}) // the report says which are missing
    const found = (report.workflows[name] = { ...(await page.evaluate(graphReport)), opened: await page.evaluate(places), notes: await page.evaluate(notes) })
    await picture('opened')
    await page.evaluate(hurry, [QUICK, SMALL])
    const before = await page.evaluate(() => window.ends.length)
    const queued = (answer) => answer.request().method() === 'POST' && new URL(answer.url()).pathname.endsWith('/prompt')
    const [answer] = await Promise.all([page.waitForResponse(queued), page.getByTestId('queue-button').click()])
    if (answer.ok()) await page.waitForFunction((count) => window.ends.length > count, before)
    await page.waitForTimeout(1500) // for the video
    found.end = answer.ok() ? await page.evaluate(() => window.ends.at(-1)) : { name: 'refused', why: await answer.text() }
    found.done = await page.evaluate(places)
    found.previews = await page.evaluate(previews)
    await picture('done')
  }
}, { renderer })
